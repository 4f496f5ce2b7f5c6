"""Intervals that decide whether one method is better than another: over users and over seeds.

A test day is one draw of users, a trained cascade one draw of a seed. A gain that is to hold for
the method, not for the files at hand, has both sources of chance in its interval.

Legend: R requests, M runs of one configuration, each with a seed of its own.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student

from training.intervals import Estimate, clustered_error

Float64 = NDArray[np.float64]
_LEVEL = 0.975


class Gain(BaseModel):
    """How much more a configuration scores than a reference, on the same requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimate: Estimate
    over_seeds: bool
    """The interval holds the chance of the seeds too; False where a side has a single run, whose
    interval then is about these very runs."""

    @property
    def better(self) -> bool:
        """The whole interval lies above 0, and it holds the chance of the seeds."""
        low = self.estimate.low
        return self.over_seeds and low is not None and low > 0


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of runs that differ by their seed alone, with a t interval.

    Args:
        values: one a run, at least one; no interval for a single one.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(value=mean, low=None, high=None)
    variance = float(np.var(values, ddof=1)) / len(values)
    half = float(student.ppf(_LEVEL, len(values) - 1)) * math.sqrt(variance)
    return Estimate(value=mean, low=mean - half, high=mean + half)


def gain(values_MR: Float64, reference_MR: Float64, users_R: NDArray[np.integer]) -> Gain:
    """Mean of the differences request by request, with an interval.

    The variance is that over users (of the difference of the two sides' means over their runs, so
    what is hard for both cancels) plus, where each side has two runs or more, that over the seeds
    of either side. Degrees of freedom by Welch and Satterthwaite. What a seed does to single
    requests is in both terms, so the interval is rather too wide than too narrow.

    Args:
        values_MR: float [M, R], the runs of the configuration.
        reference_MR: float [M, R], those of the reference, M of its own; the same R requests.
        users_R: int [R], whose request it is.
    """
    differences_R = values_MR.mean(axis=0) - reference_MR.mean(axis=0)
    value = float(differences_R.mean())
    users = len(np.unique(users_R))
    seeds = len(values_MR) > 1 and len(reference_MR) > 1
    if users < 2:
        return Gain(estimate=Estimate(value=value, low=None, high=None), over_seeds=False)
    error = clustered_error(differences_R - value, users_R) / len(differences_R)
    parts = [(error**2, users - 1)]
    if seeds:
        for side_MR in (values_MR, reference_MR):
            means_M = side_MR.mean(axis=1)
            parts.append((float(means_M.var(ddof=1)) / len(means_M), len(means_M) - 1))
    half = _half_width(parts)
    return Gain(
        estimate=Estimate(value=value, low=value - half, high=value + half), over_seeds=seeds
    )


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Of a 95 % interval of a sum of independent terms, given variance and freedom of each."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(student.ppf(_LEVEL, freedom)) * math.sqrt(variance)
