"""Rate: how often something happened in simulated experiments, and how often it should have."""

from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import binomtest


class Rate(NamedTuple):
    """A share of runs, and the band that it must be in."""

    study: str
    what: str
    hits: int
    runs: int
    low: float = 0.0
    high: float = 1.0

    @property
    def share(self) -> float:
        """Hits a run."""
        return self.hits / self.runs

    @property
    def error(self) -> float:
        """Standard error of the share, by the band's nearer end or the share itself."""
        near = min(max(self.share, self.low), self.high)
        return float((near * (1 - near) / self.runs) ** 0.5)

    @property
    def holds(self) -> bool:
        """Whether the share is in the band, give or take two standard errors of a run's number.

        A band is where the true rate must be; the share of few runs scatters about it.
        """
        return self.low - 2 * self.error <= self.share <= self.high + 2 * self.error

    @property
    def interval(self) -> tuple[float, float]:
        """Of the true rate: 95 %, Wilson."""
        found = binomtest(self.hits, self.runs).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def count(study: str, what: str, found: Sequence[bool], band: tuple[float, float]) -> Rate:
    """The rate of what was found, a truth value a run."""
    return Rate(study, what, sum(map(bool, found)), len(found), *band)
