"""Planning: how many units a test needs, and what so many units can show."""

import math
from typing import NamedTuple, cast

import numpy as np
from scipy.stats import norm

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Sample, Values
from abtest.analysis.statistics.aggregates import adjustable, aggregates, engine, explained
from abtest.analysis.statistics.capping import cap
from abtest.analysis.statistics.comparison import fitted, fitted_values
from abtest.analysis.statistics.difference import value
from abtest.analysis.statistics.effect import ALPHA, POWER, AnalysisError, Plan
from abtest.analysis.statistics.quantile import quantile


class _Quantile(NamedTuple):
    """A quantile of history."""

    value: float
    deviation: float
    """Standard error of the quantile of one unit's events: that of n units is this over sqrt(n)."""


def plan(
    metric: Metric,
    taken: Sample | Values,
    *,
    relative_effect: float,
    power: float = POWER,
    alpha: float = ALPHA,
    variants: int = 2,
    units_per_day: float | None = None,
) -> Plan:
    """Units that a fixed-horizon test needs to find an effect, from units of history.

    Capping and CUPED count as the metric declares them. With more than two variants each is tested
    against the control at alpha / (variants - 1), which is what Holm's first step asks.

    Args:
        metric: what decides.
        taken: units of history, over a time as long as the test's; values of a quantile.
        relative_effect: smallest effect worth finding, as a share of the value: 0.02, or -0.02.
        power: chance to find it, in (0, 1).
        alpha: chance to find one that is not there, in (0, 1).
        variants: with the control; equal shares.
        units_per_day: new units a day that come into the test.

    Raises:
        AnalysisError: a number is out of range, or history has fewer than two units, no variation,
            a value that is not above zero, or too few events for the quantile.

    Source: two-sided normal test of two means of equal variance; Cohen (1988), *Statistical Power
    Analysis*, chapter 2. Below 50 units a variant Student's test asks for one or two more; its
    noncentral distribution cannot be computed for many.
    """
    if not (math.isfinite(relative_effect) and relative_effect):
        raise AnalysisError(
            f"relative_effect == {relative_effect} must be a share other than 0, such as 0.02"
        )
    _check(power, alpha, variants)
    if units_per_day is not None and not units_per_day > 0:
        raise AnalysisError(f"units_per_day == {units_per_day} must be above 0; leave it out")
    history = _history(metric, taken)
    units = math.ceil(_units(history, relative_effect, power, alpha / (variants - 1)))
    saved = None
    if isinstance(history, Sample) and adjustable(history):
        saved = explained(aggregates(history), ratio=history.denominator is not None)
    return Plan(
        metric=metric.name,
        baseline=history.value if isinstance(history, _Quantile) else value(history),
        relative_effect=relative_effect,
        units_per_variant=units,
        days=None if units_per_day is None else units * variants / units_per_day,
        power=power,
        alpha=alpha,
        variance_reduction=saved,
    )


def detectable_effect(
    metric: Metric,
    taken: Sample | Values,
    *,
    units_per_variant: int,
    power: float = POWER,
    alpha: float = ALPHA,
    variants: int = 2,
) -> float:
    """Smallest relative effect that so many units find with that power: the inverse of `plan`.

    Args:
        metric: what decides.
        taken: units of history.
        units_per_variant: at least 2.
        power: as in `plan`.
        alpha: as in `plan`.
        variants: as in `plan`.

    Raises:
        AnalysisError: as `plan`.
    """
    if units_per_variant < 2:
        raise AnalysisError(f"units_per_variant == {units_per_variant} must be at least 2")
    _check(power, alpha, variants)
    return _effect(_history(metric, taken), units_per_variant, power, alpha / (variants - 1))


def _check(power: float, alpha: float, variants: int) -> None:
    for name, share in (("power", power), ("alpha", alpha)):
        if not 0 < share < 1:
            raise AnalysisError(f"{name} == {share} must be in (0, 1); 0.8 and 0.05 are usual")
    if power <= alpha:
        raise AnalysisError(f"power == {power} must be above alpha == {alpha}; 0.8 is usual")
    if variants < 2:
        raise AnalysisError(f"variants == {variants} must be at least 2, with the control")


def _history(metric: Metric, taken: Sample | Values) -> Sample | _Quantile:
    if taken.number_units < 2:
        raise AnalysisError(
            f"metric {metric.name}: history has {taken.number_units} units, a plan needs at least "
            "2; take more days"
        )
    if isinstance(taken, Values):
        return _quantile(metric, taken)
    used = fitted(metric, taken, "history")
    if metric.cap_quantile is not None:
        used = cap(used, used, metric.cap_quantile)[0]
    baseline = value(used)
    if not baseline > 0 or not np.ptp(used.numerator) > 0:
        raise _tells_nothing(metric, baseline)
    return used


def _quantile(metric: Metric, values: Values) -> _Quantile:
    used, level = fitted_values(metric, values, "history")
    if len(used.values) and not np.ptp(used.values) > 0:
        raise _tells_nothing(metric, used.values[0])
    found = quantile(used, level)
    if found is None:
        raise AnalysisError(
            f"metric {metric.name}: history has {len(values.values)} events, too few to tell the "
            f"{level:g} quantile; take more days"
        )
    if not found.value > 0 or not found.standard_error > 0:
        raise _tells_nothing(metric, found.value)
    return _Quantile(found.value, found.standard_error * math.sqrt(used.number_units))


def _tells_nothing(metric: Metric, baseline: float) -> AnalysisError:
    return AnalysisError(
        f"metric {metric.name}: history's value == {baseline:g} must be above 0 and differ "
        "between units; take more days"
    )


def _units(history: Sample | _Quantile, effect: float, power: float, alpha: float) -> float:
    """Units a variant that find a relative effect."""
    if isinstance(history, _Quantile):
        errors = _errors(power, alpha) * history.deviation / (effect * history.value)
        return 2 * errors**2
    return _solve(history, "n_obs", rel_effect_size=effect, power=power, alpha=alpha) / 2


def _effect(history: Sample | _Quantile, units: int, power: float, alpha: float) -> float:
    """Relative effect that so many units a variant find."""
    if isinstance(history, _Quantile):
        return _errors(power, alpha) * history.deviation / history.value * math.sqrt(2 / units)
    return _solve(history, "rel_effect_size", n_obs=2 * units, power=power, alpha=alpha)


def _errors(power: float, alpha: float) -> float:
    """Standard errors that an effect must have to be found."""
    return float(norm.ppf(1 - alpha / 2) + norm.ppf(power))


def _solve(sample: Sample, parameter: str, **given: float) -> float:
    ask = engine(sample, adjusted=adjustable(sample), use_t=False, planned=given)
    solved = ask.solve_power_from_aggregates(aggregates(sample), parameter)[0]
    return cast("float", getattr(solved, parameter))
