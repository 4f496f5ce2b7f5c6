"""Run folder of a cascade trained on a RecFlow log.

`run.json` says what is trained on which log, `config.toml` is the configuration as it can be given
again, `environment.json` what it was made with, `checkpoint.pt` everything the next step depends
on, `metrics.jsonl` how training went, `curve.png` the same as a picture. All but `metrics.jsonl`,
which grows line by line, are written beside their final names, synced and renamed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from training.config import config_toml
from training.curve import Panel, draw_panels
from training.durable import replace_file, sync, write_file
from training.folder import (
    TrainError,
    check_config,
    check_data,
    empty_folder,
    load_state,
    read_record,
    write_record,
)
from training.recflow.cascade import LogCascade, build_cascade
from training.recflow.config import RecFlowConfig
from training.recflow.environment import Environment
from training.recflow.log import PreparedLog

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
CURVE = "curve.png"

TOTAL = "total"
"""Name of the loss itself among its parts."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogRun(_Record):
    """What is trained, and on which log."""

    format: Literal[1] = 1
    config: RecFlowConfig
    log: str
    """Its name."""
    fingerprint: str
    data: Path
    """Where the log was, absolute."""
    last_train_day: str

    @classmethod
    def of(cls, config: RecFlowConfig, log: PreparedLog) -> "LogRun":
        """The run of a configuration on a log.

        Raises:
            TrainError: the log has no such last day of training, or a single day.
        """
        days = log.meta.days
        last = config.last_train_day
        if last is None and len(days) < 2:
            raise TrainError(
                f"{log.path} has the single day {days[0]} and the last day is left for the test; "
                "prepare a second one, or set last_train_day"
            )
        if last is not None and last not in days:
            raise TrainError(
                f"last_train_day = {last!r} is no day of {log.path}; it has {days[0]} to {days[-1]}"
            )
        return cls(
            config=config,
            log=log.meta.name,
            fingerprint=log.meta.fingerprint,
            data=log.path.resolve(),
            last_train_day=last or days[-2],
        )

    def train_days(self, log: PreparedLog) -> tuple[str, ...]:
        """Days of the log to train on, in order."""
        return log.meta.days[: log.meta.days.index(self.last_train_day) + 1]


class Line(_Record):
    """How training stood at a step; a line of `metrics.jsonl`."""

    step: int
    requests: int
    """Seen until then, by all processes."""
    day: str
    seconds: float
    """Of training until then."""
    requests_per_s: float
    """Since the line before."""
    loss: float
    """Mean of the steps since the line before."""
    parts: dict[str, float]
    """Of the loss, likewise."""
    recall: float | None
    """Share of the truth that is left after the last stage, in the batch of this step; None where
    the batch has no truth."""


class Tally(BaseModel):
    """What the next line of `metrics.jsonl` is made of so far."""

    steps: int = 0
    requests: int = 0
    since_s: float = 0.0
    """When the line before was made, in seconds of training."""
    losses: dict[str, float] = {}
    """Sums over the steps."""

    def add(self, requests: int, losses: Mapping[str, float]) -> None:
        """Count a step."""
        self.steps += 1
        self.requests += requests
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value

    def line(
        self, step: int, requests: int, day: str, seconds: float, recall: float | None
    ) -> Line:
        """The line of a step, and begin the next one.

        Args:
            step: just made.
            requests: seen in all.
            day: of the step.
            seconds: of training in all.
            recall: of the step.
        """
        means = {name: value / self.steps for name, value in self.losses.items()}
        line = Line(
            step=step, requests=requests, day=day, seconds=seconds,
            requests_per_s=self.requests / max(seconds - self.since_s, 1e-9),
            loss=means.pop(TOTAL), parts=means, recall=recall,
        )  # fmt: skip
        self.steps, self.requests, self.since_s, self.losses = 0, 0, seconds, {}
        return line


class Checkpoint(_Record):
    """Everything the next step depends on."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step: int
    requests: int
    seconds: float
    weights: dict[str, Tensor]
    loss: dict[str, Tensor]
    """Weights of the loss."""
    optimizer: dict[str, Any]
    embedding_optimizer: dict[str, Any]
    torch_random: Tensor
    tally: Tally


def open_run(
    folder: Path, run: LogRun, environment: Environment, *, resume: bool, overwrite: bool
) -> None:
    """Make the folder ready for `run`.

    Args:
        folder: of the run, made if missing.
        run: what will be trained.
        environment: what with.
        resume: the folder holds this very run, which goes on.
        overwrite: a run the folder holds is removed.

    Raises:
        TrainError: the folder holds something else than the flags say.
    """
    if resume:
        found = read_run(folder)
        check_data(folder, (found.log, found.fingerprint), (run.log, run.fingerprint))
        check_config(folder, found.config, run.config)
    else:
        empty_folder(folder, overwrite=overwrite)
        write_record(folder, run)
        write_file(folder / CONFIG, config_toml(run.config).encode())
    write_file(folder / ENVIRONMENT, (environment.model_dump_json(indent=1) + "\n").encode())


def read_run(folder: Path) -> LogRun:
    """What a folder trains.

    Raises:
        TrainError: it holds no run on a RecFlow log.
    """
    return read_record(folder, LogRun)


def load_run(folder: Path, log: PreparedLog) -> tuple[LogRun, LogCascade]:
    """A trained cascade, in evaluation mode.

    Args:
        folder: of the run.
        log: that it was trained on.

    Raises:
        TrainError: the folder holds no run or no checkpoint, or the run is of another log.
    """
    run = read_run(folder)
    if run.fingerprint != log.meta.fingerprint:
        raise TrainError(
            f"{folder} was trained on {run.log} {run.fingerprint[:12]}, the log given is "
            f"{log.meta.name} {log.meta.fingerprint[:12]}; give the log in {run.data}"
        )
    if not (folder / CHECKPOINT).is_file():
        raise TrainError(
            f"{folder} has no {CHECKPOINT} yet: its run was cut off before the first one; go on "
            "with `cascade train --resume`"
        )
    cascade = build_cascade(log, run.config, run.last_train_day)
    cascade.load_state_dict(load_state(folder / CHECKPOINT, mapped=True)["weights"])
    return run, cascade.eval()


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a run, None before the first; its tensors stay on disk until used.

    Raises:
        TrainError: it cannot be read.
    """
    if not (folder / CHECKPOINT).is_file():
        return None
    return Checkpoint(**load_state(folder / CHECKPOINT, mapped=True))


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, after the lines of metrics until it; tensors are written as they lie."""
    if (folder / METRICS).is_file():
        sync(folder / METRICS)
    content = {name: getattr(checkpoint, name) for name in Checkpoint.model_fields}
    content["tally"] = checkpoint.tally.model_dump()
    replace_file(folder / CHECKPOINT, lambda draft: torch.save(content, draft))


def append_line(folder: Path, line: Line) -> None:
    """Add a line to `metrics.jsonl`."""
    with (folder / METRICS).open("a") as file:
        file.write(line.model_dump_json() + "\n")


def read_lines(folder: Path) -> list[Line]:
    """Lines of `metrics.jsonl`, but a last one that was cut off."""
    path, lines = folder / METRICS, []
    if path.is_file():
        for text in path.read_text().splitlines():
            try:
                lines.append(Line.model_validate(json.loads(text)))
            except (json.JSONDecodeError, ValidationError):
                break
    return lines


def write_lines(folder: Path, lines: Sequence[Line]) -> None:
    """Write `metrics.jsonl` anew."""
    content = "".join(line.model_dump_json() + "\n" for line in lines)
    write_file(folder / METRICS, content.encode())


def draw_run(folder: Path, title: str, lines: Sequence[Line]) -> None:
    """Write `curve.png`: loss and joint recall over the requests seen."""
    if not lines:
        return
    recalls = [float("nan") if line.recall is None else line.recall for line in lines]
    panels = (
        Panel("training loss", [line.loss for line in lines]),
        Panel("joint recall, training batches", recalls),
    )
    write_file(folder / CURVE, draw_panels(title, [line.requests for line in lines], panels))
