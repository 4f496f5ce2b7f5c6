"""Quantile: a quantile of events whose units, not events, are independent."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from abtest.analysis.sample import Values
from abtest.analysis.statistics.effect import ALPHA

Z = float(norm.ppf(1 - ALPHA / 2))


class QuantileEstimate(NamedTuple):
    """A quantile and how sure it is."""

    value: float
    standard_error: float


def quantile(values: Values, level: float) -> QuantileEstimate | None:
    """Quantile of all values, with the standard error that the units' dependence gives it.

    The share of values at or below the quantile is a ratio of two sums over units, so the delta
    method gives its standard error s clustered by unit. The quantiles at level -+ 1.96 s are an
    interval of the quantile (Woodruff 1952); its length over 2 * 1.96 is the standard error, which
    is s over the density there.

    Args:
        values: of at least two units.
        level: in (0, 1).

    Returns:
        None where the values cannot tell: fewer than two units, or an interval that reaches past
        the smallest or the largest value.

    Source: Liu, Sun, Varshney & Xu (2019), *Large-Scale Online Experimentation with Quantile
    Metrics*, section 3; Deng, Knoblich & Lu (2018), *Applying the Delta Method in Metric
    Analytics*, section 4.2; Woodruff (1952), *Confidence Intervals for Medians and Other Position
    Measures*.
    """
    total = len(values.values)
    if total < 2 or values.number_units < 2:
        return None
    value = float(np.quantile(values.values, level))
    events = np.bincount(values.units, minlength=values.number_units)
    below = np.bincount(values.units[values.values <= value], minlength=values.number_units)
    residual = below - below.sum() / total * events
    count = values.number_units
    spread = float(np.sqrt(count / (count - 1) * np.sum(residual**2))) / total
    if not 0 < level - Z * spread < level + Z * spread < 1:
        return None
    low, high = np.quantile(values.values, [level - Z * spread, level + Z * spread])
    return QuantileEstimate(value, float(high - low) / (2 * Z))
