"""Scalars for TensorBoard, where it is installed and wanted."""

from pathlib import Path
from types import TracebackType
from typing import Any

from training.folder import TrainError
from training.recflow.run import Line

FOLDER = "tensorboard"


def summary_writer() -> type[Any]:
    """TensorBoard's writer.

    Raises:
        TrainError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainError(
            "TensorBoard is not installed; install it with `pip install tensorboard`, or train "
            "without it"
        ) from error
    return SummaryWriter


class Scalars:
    """A run's lines of metrics as TensorBoard shows them; nothing where they are not wanted."""

    def __init__(self, folder: Path, step: int, *, on: bool) -> None:
        """Open the folder `tensorboard` of a run.

        Args:
            folder: of the run.
            step: the run is at; what was written of later ones is hidden.
            on: whether they are wanted.

        Raises:
            TrainError: they are wanted and TensorBoard is not installed.
        """
        self._writer = summary_writer()(str(folder / FOLDER), purge_step=step + 1) if on else None

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, line: Line) -> None:
        """Add a line of metrics."""
        if self._writer is None:
            return
        values = {"loss/total": line.loss, "requests_per_s": line.requests_per_s}
        values |= {f"loss/{name}": value for name, value in line.parts.items()}
        if line.recall is not None:
            values["joint_recall"] = line.recall
        for name, value in values.items():
            self._writer.add_scalar(name, value, line.step)
