"""Run folder: what a training run leaves on disk, and how it goes on after it was cut off.

`run.json` says what is trained on which data, `last.pt` holds everything the next step depends on,
`best.pt` the weights that validated best, `metrics.jsonl` one line a validation, `curve.png` the
same as a picture. Every file is written beside its final name, synced and renamed.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from training.config import TrainConfig
from training.data.dataset import PreparedDataset
from training.faults import first_fault

RUN = "run.json"
LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
CURVE = "curve.png"


class TrainError(ValueError):
    """A run that cannot be started, resumed or read; the message names folder, rule and remedy."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Validation(_Record):
    """How a run stood at one of its validations."""

    step: int
    requests: int
    """Training requests seen until then."""
    seconds: float
    """Time spent until then, validations included."""
    loss: float
    """Mean since the validation before."""
    parts: dict[str, float]
    recall: float
    """recall@20"""
    revenue_share: float
    """revenue@20 as a share of all money."""


class Run(_Record):
    """What is trained, and on which data."""

    config: TrainConfig
    dataset: str
    data_fingerprint: str

    @classmethod
    def of(cls, config: TrainConfig, dataset: PreparedDataset) -> "Run":
        """The run of a configuration on a dataset."""
        return cls(
            config=config, dataset=dataset.meta.name, data_fingerprint=dataset.meta.fingerprint
        )


class Checkpoint(_Record):
    """Everything the next step depends on."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step: int
    weights: dict[str, Tensor]
    objective: dict[str, Tensor]
    optimizer: dict[str, Any]
    torch_random: Tensor
    sampler_random: dict[str, Any]
    validations: tuple[Validation, ...]


def open_folder(folder: Path, run: Run, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ready for `run`.

    Args:
        folder: of the run, made if missing.
        run: what will be trained.
        resume: the folder holds this very run, which goes on.
        overwrite: a run the folder holds is removed.

    Raises:
        TrainError: the folder holds something else than the flags say.
    """
    filled = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if resume:
        _check_same(folder, read_run(folder), run)
        return
    if filled and not overwrite:
        raise TrainError(
            f"{folder} is not empty; add --resume to go on with the run in it, or --overwrite to "
            "start anew"
        )
    if filled and not (folder / RUN).is_file():
        raise TrainError(f"{folder} holds files but no run, so it is kept; choose another --out")
    if filled:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / RUN, (run.model_dump_json(indent=1) + "\n").encode())


def read_run(folder: Path) -> Run:
    """What a folder trains.

    Raises:
        TrainError: it holds no run.
    """
    if not (folder / RUN).is_file():
        raise TrainError(f"{folder} holds no {RUN}; make a run with `cascade train`")
    try:
        return Run.model_validate_json((folder / RUN).read_bytes())
    except ValidationError as error:
        raise TrainError(
            f"{folder / RUN}: {first_fault(error, Run)}; train again with --overwrite"
        ) from error


def _check_same(folder: Path, found: Run, run: Run) -> None:
    if found.data_fingerprint != run.data_fingerprint:
        raise TrainError(
            f"{folder} was trained on {found.dataset} {found.data_fingerprint[:12]}, the data "
            f"given is {run.dataset} {run.data_fingerprint[:12]}; resume with the same --data"
        )
    old, new = found.config.model_dump(), run.config.model_dump()
    for name in old:
        if old[name] != new[name]:
            raise TrainError(
                f"{folder} was started with {name} = {old[name]!r}, the configuration says "
                f"{new[name]!r}; resume with the same one, or start anew with --overwrite"
            )


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, None before the first.

    Raises:
        TrainError: it cannot be read.
    """
    if not (folder / LAST).is_file():
        return None
    raw = _load(folder / LAST)
    validations = [Validation.model_validate(line) for line in raw.pop("validations")]
    return Checkpoint(validations=tuple(validations), **raw)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then the metrics it holds; the best weights before both."""
    validations = checkpoint.validations
    if best_of(validations) is validations[-1]:
        _save(folder / BEST, {"weights": checkpoint.weights, **validations[-1].model_dump()})
    raw = {name: getattr(checkpoint, name) for name in Checkpoint.model_fields}
    raw["validations"] = [line.model_dump() for line in validations]
    _save(folder / LAST, raw)
    write_metrics(folder, validations)


def write_metrics(folder: Path, validations: tuple[Validation, ...]) -> None:
    """Write `metrics.jsonl` whole, so that no line can stand in it twice."""
    lines = "".join(line.model_dump_json() + "\n" for line in validations)
    write_file(folder / METRICS, lines.encode())


def read_best(folder: Path) -> tuple[dict[str, Tensor], Validation]:
    """The weights that validated best, and how.

    Raises:
        TrainError: the run has not been validated yet, or the file cannot be read.
    """
    if not (folder / BEST).is_file():
        raise TrainError(
            f"{folder} has no {BEST} yet: its run was cut off before the first validation; go on "
            "with `cascade train --resume`"
        )
    raw = _load(folder / BEST)
    return raw.pop("weights"), Validation.model_validate(raw)


def best_of(validations: tuple[Validation, ...]) -> Validation:
    """The validation with the highest recall, the first of equals."""
    return max(validations, key=lambda line: line.recall)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically and durably."""
    _replace(path, lambda draft: draft.write_bytes(content))


def _save(path: Path, content: dict[str, Any]) -> None:
    _replace(path, lambda draft: torch.save(content, draft))


def _load(path: Path) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # whatever unpickling a damaged file raises
        raise TrainError(
            f"{path} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); it is "
            "damaged, train again with --overwrite"
        ) from error
    return raw


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    write(draft)
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
