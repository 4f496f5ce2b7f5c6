"""Arena: data, models and measures that losses are compared on. RecFlow is one, a shop another.

Legend: R judged requests.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.leaderboard.method import BenchmarkError
from training.leaderboard.trial import Moment, Trial

Float64 = NDArray[np.float64]

SWEPT = ("loss", "learning_rate", "seed", "name")
"""Keys of a configuration that the benchmark sets."""


class Diverged(ValueError):  # noqa: N818 - an outcome of a trial, not a fault of the caller
    """Training did not last with these settings: a trial's result, not the benchmark's end."""


class Measure(BaseModel):
    """A number that methods are judged by, in [0, 1], higher is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    title: str
    """Stands above its column."""
    table: str
    """Title of the table it stands in."""


class Judged(NamedTuple):
    """What R requests contribute to a measure, which is their mean."""

    values_R: Float64
    users_R: NDArray[np.integer]
    """Whose request it is; at least 0."""


class Outcome(NamedTuple):
    """A trained and judged cascade."""

    judged: dict[str, Judged]
    """By the key of the measure; each has requests of its own, the same in all trials."""
    seconds: float
    """Of training."""
    requests: int
    """Trained on, those of all epochs."""
    steps: int
    curve: tuple[Moment, ...]


class Arena(Protocol):
    """What a leaderboard runs on."""

    @property
    def name(self) -> str:
        """`cascade benchmark NAME` runs it."""
        ...

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses it can train with."""
        ...

    @property
    def dataset(self) -> str:
        """Name of the data."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the data."""
        ...

    @property
    def description(self) -> tuple[str, ...]:
        """Sentences: how much data, what is trained, what is judged on what."""
        ...

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The first one decides."""
        ...

    @property
    def curve_title(self) -> str:
        """What a run's curve shows."""
        ...

    def config(self, trial: Trial) -> BaseModel:
        """Everything a trial depends on beside the data."""
        ...

    def run(self, trial: Trial, folder: Path, advance: Callable[[int, int], None]) -> Outcome:
        """Train and judge.

        Args:
            trial: what to train.
            folder: for the run's files, not there yet; removed afterwards.
            advance: told after every step how many are made, and of how many.

        Raises:
            Diverged: training did not last.
        """
        ...


def check_shared(keys: Iterable[str]) -> None:
    """Require that keys to be set for all trials are none of those that a trial sets itself.

    Raises:
        BenchmarkError: one is.
    """
    for key in keys:
        if any(f"{key}.".startswith(f"{swept}.") for swept in SWEPT):
            raise BenchmarkError(
                f"{key} cannot be set, the benchmark sets it; choose methods, trials and seeds"
            )
