"""Step: a stretch of load, open or closed loop, made of phases that follow without a pause."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any


class LoadError(ValueError):
    """A load test that cannot be run; the message names value, rule and remedy."""


class Loop(StrEnum):
    """Who decides when the next request is sent."""

    OPEN = "open"
    """The clock: visits arrive at a rate, whether or not earlier ones were answered."""
    CLOSED = "closed"
    """The answer: each of a number of users asks again once it has been answered."""


@dataclass(frozen=True)
class Phase:
    """A time in which the load stays or changes in a straight line.

    The level is visits a second in an open loop, users in a closed one.
    """

    name: str
    duration_s: float
    start: float
    end: float

    @property
    def constant(self) -> bool:
        """Whether the level stays."""
        return self.start == self.end

    def level(self, elapsed_s: float) -> float:
        """The level after a time in the phase."""
        return self.start + (self.end - self.start) * elapsed_s / self.duration_s


@dataclass(frozen=True)
class Step:
    """Phases in a row; before the next step everything in flight is waited for."""

    study: str
    loop: Loop
    phases: tuple[Phase, ...]

    @property
    def duration_s(self) -> float:
        """All its phases."""
        return sum(phase.duration_s for phase in self.phases)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Step":
        """The step that `dataclasses.asdict` took apart."""
        phases = tuple(Phase(**phase) for phase in found["phases"])
        return cls(found["study"], Loop(found["loop"]), phases)


def constant(study: str, loop: Loop, level: float, duration_s: float) -> Step:
    """A step of one level."""
    name = f"{level:.0f} users" if loop is Loop.CLOSED else f"{level:.0f}/s"
    return Step(study, loop, (Phase(name, duration_s, level, level),))


def arrivals_s(phase: Phase, share: float, rng: Random) -> Iterator[float]:
    """Times of a Poisson process with the rate of a phase, in seconds from its start.

    A changing rate is had by thinning: arrivals at the highest rate are kept with the probability
    of the rate at their time (Lewis and Shedler 1979).

    Args:
        phase: of an open loop.
        share: of the rate that falls to this process, in (0, 1].
        rng: draws gaps and, where the rate changes, who is kept.
    """
    highest = max(phase.start, phase.end)
    elapsed_s = 0.0
    while highest > 0:
        elapsed_s += rng.expovariate(highest * share)
        if elapsed_s >= phase.duration_s:
            return
        if phase.constant or rng.random() * highest < phase.level(elapsed_s):
            yield elapsed_s
