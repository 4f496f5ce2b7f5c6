"""Run folder: what a training run leaves on disk, and how it goes on after it was cut off.

`run.json` says what is trained on which data, `last.pt` holds everything the next step depends on,
`best.pt` the weights that validated best, `metrics.jsonl` one line a validation, `curve.png` the
same as a picture. Every file is written beside its final name, synced and renamed.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from training.config import TrainConfig
from training.data.dataset import PreparedDataset
from training.durable import replace_file, write_file
from training.folder import (
    TrainError,
    check_config,
    check_data,
    empty_folder,
    load_state,
    read_record,
    write_record,
)

LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
CURVE = "curve.png"


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
    if resume:
        found = read_run(folder)
        check_data(
            folder, (found.dataset, found.data_fingerprint), (run.dataset, run.data_fingerprint)
        )
        check_config(folder, found.config, run.config)
        return
    empty_folder(folder, overwrite=overwrite)
    write_record(folder, run)


def read_run(folder: Path) -> Run:
    """What a folder trains.

    Raises:
        TrainError: it holds no run.
    """
    return read_record(folder, Run)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, None before the first.

    Raises:
        TrainError: it cannot be read.
    """
    if not (folder / LAST).is_file():
        return None
    raw = load_state(folder / LAST)
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
    raw = load_state(folder / BEST)
    return raw.pop("weights"), Validation.model_validate(raw)


def best_of(validations: tuple[Validation, ...]) -> Validation:
    """The validation with the highest recall, the first of equals."""
    return max(validations, key=lambda line: line.recall)


def _save(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, lambda draft: torch.save(content, draft))
