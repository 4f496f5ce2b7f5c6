"""Planning: how many units a test needs, and what so many units can show."""

import math
from typing import Any

import numpy as np

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Sample
from abtest.analysis.statistics.aggregates import adjustable, aggregates, engine, explained
from abtest.analysis.statistics.capping import cap
from abtest.analysis.statistics.comparison import fitted
from abtest.analysis.statistics.difference import value
from abtest.analysis.statistics.effect import ALPHA, POWER, AnalysisError, Plan


def plan(
    metric: Metric,
    sample: Sample,
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
        metric: a mean or a ratio.
        sample: units of history, over a time as long as the test's.
        relative_effect: smallest effect worth finding, as a share of the value: 0.02, or -0.02.
        power: chance to find it, in (0, 1).
        alpha: chance to find one that is not there, in (0, 1).
        variants: with the control; equal shares.
        units_per_day: new units a day that come into the test.

    Raises:
        AnalysisError: a number is out of range, or history has fewer than two units, no variation
            or a value that is not above zero.

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
    history = _history(metric, sample)
    needed = _solve(
        history, "n_obs", rel_effect_size=relative_effect, power=power, alpha=alpha / (variants - 1)
    )
    units = math.ceil(needed.n_obs / 2)
    ratio, saved = history.denominator is not None, None
    if adjustable(history):
        saved = explained(aggregates(history), ratio=ratio)
    return Plan(
        metric=metric.name,
        baseline=value(history),
        relative_effect=relative_effect,
        units_per_variant=units,
        days=None if units_per_day is None else units * variants / units_per_day,
        power=power,
        alpha=alpha,
        variance_reduction=saved,
    )


def detectable_effect(
    metric: Metric,
    sample: Sample,
    *,
    units_per_variant: int,
    power: float = POWER,
    alpha: float = ALPHA,
    variants: int = 2,
) -> float:
    """Smallest relative effect that so many units find with that power: the inverse of `plan`.

    Args:
        metric: a mean or a ratio.
        sample: units of history.
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
    found = _solve(
        _history(metric, sample),
        "rel_effect_size",
        n_obs=2 * units_per_variant,
        power=power,
        alpha=alpha / (variants - 1),
    )
    return float(found.rel_effect_size)


def _check(power: float, alpha: float, variants: int) -> None:
    for name, share in (("power", power), ("alpha", alpha)):
        if not 0 < share < 1:
            raise AnalysisError(f"{name} == {share} must be in (0, 1); 0.8 and 0.05 are usual")
    if power <= alpha:
        raise AnalysisError(f"power == {power} must be above alpha == {alpha}; 0.8 is usual")
    if variants < 2:
        raise AnalysisError(f"variants == {variants} must be at least 2, with the control")


def _history(metric: Metric, sample: Sample) -> Sample:
    used = fitted(metric, sample, "history")
    if len(used.numerator) < 2:
        raise AnalysisError(
            f"metric {metric.name}: history has {len(used.numerator)} units, a plan needs at least "
            "2; take more days"
        )
    if metric.cap_quantile is not None:
        used = cap(used, used, metric.cap_quantile)[0]
    baseline = value(used)
    if not baseline > 0 or not np.ptp(used.numerator) > 0:
        raise AnalysisError(
            f"metric {metric.name}: history's value == {baseline:g} must be above 0 and differ "
            "between units; take more days"
        )
    return used


def _solve(sample: Sample, parameter: str, **given: float) -> Any:  # noqa: ANN401
    ask = engine(sample, adjusted=adjustable(sample), use_t=False, planned=given)
    return ask.solve_power_from_aggregates(aggregates(sample), parameter)[0]
