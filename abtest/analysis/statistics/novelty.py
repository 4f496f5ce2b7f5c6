"""Novelty: whether an effect fades or grows with time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from abtest.analysis.statistics.effect import ALPHA, AnalysisError, DayEffect, Novelty

FEWEST_DAYS = 7
"""With fewer, the day of the week and the slope are the same."""


def novelty(variant: str, days: Sequence[DayEffect]) -> Novelty | None:
    """Line through the effects of single days, each weighted by its units.

    It fades if the line falls towards zero, and grows if it rises away from it, with p < 0.05; the
    sign is that of the last cumulative effect. The units are the same from day to day, so what they
    have in common moves the line, not its slope. A day's effect has about the variance 1 / units.

    Args:
        variant: whose effect it is; days of others are left out.
        days: in any order.

    Returns:
        None for fewer than seven days with an effect.

    Raises:
        AnalysisError: a day stands twice.

    Source: weighted least squares, e.g. Weisberg (2014), *Applied Linear Regression*, section 7.1;
    Kohavi, Tang & Xu (2020), *Trustworthy Online Controlled Experiments*, section 3, on primacy
    and novelty.
    """
    own = sorted((day for day in days if day.variant == variant), key=lambda day: day.day)
    if len({day.day for day in own}) < len(own):
        raise AnalysisError(f"days of {variant} must be given once each; leave out repeated ones")
    told = [(day, day.that_day) for day in own if day.that_day is not None and day.units > 0]
    if len(told) < FEWEST_DAYS:
        return None
    line = _weighted_line(
        np.array([day.day.toordinal() for day, _ in told], np.float64),
        np.array([effect for _, effect in told], np.float64),
        np.array([day.units for day, _ in told], np.float64),
    )
    sure = line.p_value < ALPHA
    towards_zero = line.slope * own[-1].absolute < 0
    return Novelty(
        variant=variant,
        slope_per_day=line.slope,
        p_value=line.p_value,
        fades=sure and towards_zero,
        grows=sure and not towards_zero,
    )


class _Line(NamedTuple):
    slope: float
    p_value: float


def _weighted_line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> _Line:
    x, y = (one - np.average(one, weights=weights) for one in (x, y))
    spread = float(np.sum(weights * x**2))
    slope = float(np.sum(weights * x * y)) / spread
    free = len(x) - 2
    error = float(np.sqrt(np.sum(weights * (y - slope * x) ** 2) / free / spread))
    if not error > 1e-12 * abs(slope):
        return _Line(slope, 0.0 if slope else 1.0)
    return _Line(slope, float(2 * student.sf(abs(slope) / error, free)))
