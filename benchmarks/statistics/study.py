"""Study: what all of them share."""

from collections.abc import Callable, Iterator

import numpy as np

from abtest.analysis.statistics.effect import Effect, Interval
from benchmarks.statistics.rate import Rate

LEVEL = (0.04, 0.06)
COVERAGE = (0.94, 0.96)
ARM = 5_000
"""Units of an arm."""

Study = Callable[[int], list[Rate]]


def generators(runs: int, seed: int) -> Iterator[np.random.Generator]:
    """An independent one a run."""
    for child in np.random.SeedSequence(seed).spawn(runs):
        yield np.random.default_rng(child)


def certain(effect: Effect | None) -> Effect:
    """An effect that must be there."""
    assert effect is not None, "the simulated arms are large and vary"
    return effect


def holds(interval: Interval, truth: float) -> bool:
    """Whether the truth is in the interval."""
    return interval.low <= truth <= interval.high
