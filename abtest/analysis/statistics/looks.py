"""Looks: the tests of `compare` and `compare_values` at many moments of one experiment.

An A/A test repeats an experiment a thousand times with a hundred looks each. What Welch's test
needs are sums, and the sums of a look are those of the looks before it and of the units that came
since. Quantiles are found anew at each look.
"""

from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from abtest.analysis.sample import Float64, Int64, Sample, Values
from abtest.analysis.statistics.effect import ALPHA
from abtest.analysis.statistics.quantile import quantile
from abtest.analysis.statistics.sequential import FEWEST_UNITS, half_width


class Looks(NamedTuple):
    """What is seen at each of L looks; nan where nothing can be told."""

    difference: Float64
    """[L] Treatment less control, with CUPED of the adjusted values."""
    standard_error: Float64
    """[L]"""
    freedom: Float64
    """[L] Welch's degrees of freedom."""
    units: Int64
    """[L, 2] Units of control and treatment until then."""


def looks(
    sample: Sample, treated: NDArray[np.bool_], first_look: Int64, number: int, *, adjusted: bool
) -> Looks:
    """Test at each look the units that came until then.

    Args:
        sample: of U units of both arms.
        treated: [U] whether the unit is in the treatment.
        first_look: [U] the first look that sees the unit, in [0, number).
        number: L.
        adjusted: with CUPED, whose coefficient is estimated anew at each look.
    """
    own = (sample.numerator, sample.denominator)
    before = (sample.covariate, sample.covariate_denominator) if adjusted else ()
    columns = [column for column in (*own, *before) if column is not None]
    # Sums of squares of what is far from zero lose digits.
    centres = np.array([column.mean() for column in columns])
    columns = [column - centre for column, centre in zip(columns, centres, strict=True)]
    cells = first_look * 2 + treated

    def until(weights: Float64 | None) -> Float64:
        added = np.bincount(cells, weights, 2 * number).reshape(number, 2)
        return np.asarray(added.cumsum(0), np.float64)

    units = until(None)
    sums = np.stack([until(column) for column in columns], -1)
    products = np.empty((*sums.shape, len(columns)))
    for i, j in combinations_with_replacement(range(len(columns)), 2):
        products[..., i, j] = products[..., j, i] = until(columns[i] * columns[j])
    with np.errstate(divide="ignore", invalid="ignore"):
        return _test(units, sums, products, centres, ratio=sample.denominator is not None)


def quantile_looks(
    values: Values, level: float, treated: NDArray[np.bool_], first_look: Int64, number: int
) -> Looks:
    """Test at each look a quantile of the events of the units that came until then.

    Args:
        values: of U units of both arms.
        level: of the quantile, in (0, 1).
        treated: [U] whether the unit is in the treatment.
        first_look: [U] the first look that sees the unit, in [0, number).
        number: L.
    """
    found = np.full((number, 2, 2), np.nan)
    units = np.zeros((number, 2), np.int64)
    for arm in (0, 1):
        # Units are numbered as they come, so that those of a look are the first ones.
        members = np.flatnonzero(treated == arm)
        members = members[np.argsort(first_look[members], kind="stable")]
        places = np.full(values.number_units, -1, np.int64)
        places[members] = np.arange(len(members))
        came = places[values.units]
        events, came = values.values[came >= 0], came[came >= 0]
        units[:, arm] = np.searchsorted(first_look[members], np.arange(number), side="right")
        for look, count in enumerate(units[:, arm].tolist()):
            seen = came < count
            one = quantile(Values(events[seen], came[seen], count), level)
            if one is not None:
                found[look, arm] = one
    return Looks(
        difference=found[:, 1, 0] - found[:, 0, 0],
        standard_error=np.hypot(found[:, 0, 1], found[:, 1, 1]),
        freedom=np.full(number, np.inf),
        units=units,
    )


def _test(
    units: Float64, sums: Float64, products: Float64, centres: Float64, *, ratio: bool
) -> Looks:
    """From counts [L, 2], sums [L, 2, C] and sums of products [L, 2, C, C] of centred columns."""
    means, covariances = _moments(units, sums, products)
    value, gradient = _linear(means + centres, 0, ratio=ratio)
    width = 2 if ratio else 1
    if len(centres) > width:
        total, pooled = _moments(units.sum(1), sums.sum(1), products.sum(1))
        own = _linear(total + centres, 0, ratio=ratio)[1]
        past = _linear(total + centres, width, ratio=ratio)[1]
        slope = (_form(own, pooled, past) / _form(past, pooled, past))[:, None]
        before, towards = _linear(means + centres, width, ratio=ratio)
        value, gradient = value - slope * before, gradient - slope[..., None] * towards
    parts = _form(gradient, covariances, gradient) / units
    return Looks(
        difference=value[:, 1] - value[:, 0],
        standard_error=np.sqrt(parts.sum(1)),
        freedom=parts.sum(1) ** 2 / (parts**2 / (units - 1)).sum(1),
        units=units.astype(np.int64),
    )


def _moments(units: Float64, sums: Float64, products: Float64) -> tuple[Float64, Float64]:
    """Means [..., C] and covariances [..., C, C]."""
    means = sums / units[..., None]
    outer = means[..., :, None] * sums[..., None, :]
    return means, (products - outer) / (units - 1)[..., None, None]


def _linear(means: Float64, at: int, *, ratio: bool) -> tuple[Float64, Float64]:
    """Value [...] of the mean or the ratio whose columns begin at `at`, and gradient [..., C]."""
    gradient = np.zeros_like(means)
    if not ratio:
        gradient[..., at] = 1
        return means[..., at], gradient
    value = means[..., at] / means[..., at + 1]
    gradient[..., at] = 1 / means[..., at + 1]
    gradient[..., at + 1] = -value / means[..., at + 1]
    return value, gradient


def _form(left: Float64, covariance: Float64, right: Float64) -> Float64:
    return np.asarray(np.einsum("...i,...ij,...j", left, covariance, right), np.float64)


def significant(seen: Looks, effect: float = 0.0) -> NDArray[np.bool_]:
    """[L] Whether the fixed-horizon test, read at each look, rejects `effect` with p < 0.05."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.abs(seen.difference - effect) / seen.standard_error
        return np.asarray(distance > student.ppf(1 - ALPHA / 2, seen.freedom), np.bool_)


def left_sequence(
    seen: Looks, planned_units: int, effect: float = 0.0, fewest: int = FEWEST_UNITS
) -> NDArray[np.bool_]:
    """[L] Whether `effect` is outside the confidence sequence of `always_valid` at each look."""
    units = seen.units.sum(1)
    widths = np.array([np.sqrt(n) * half_width(n, planned_units) if n else np.inf for n in units])
    with np.errstate(invalid="ignore"):
        outside = np.abs(seen.difference - effect) > widths * seen.standard_error
    return np.asarray(outside & (seen.standard_error > 0) & (seen.units.min(1) >= fewest), np.bool_)
