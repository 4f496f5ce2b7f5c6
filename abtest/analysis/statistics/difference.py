"""Difference: two values, how far they are apart, and how sure that is."""

import math
from typing import Any, NamedTuple

from scipy.stats import norm

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.aggregates import aggregates, engine, explained
from abtest.analysis.statistics.effect import ALPHA, Interval

Z = float(norm.ppf(1 - ALPHA / 2))
"""Standard errors on each side of a 95 % interval."""
_NOTHING = 1e-12
"""A standard error below that share of the values is rounding."""
_OTHER = {"control": "control", "treatment": "treatment"}


class Difference(NamedTuple):
    """A treatment against a control, in the metric's units."""

    absolute: float
    interval: Interval
    standard_error: float
    relative: float | None
    """Share of the control's value; None where a value's interval reaches zero."""
    relative_interval: Interval | None
    log_error: float
    """Standard error of the logarithm of the ratio of the values; 0 without."""
    p_value: float


def value(sample: Sample) -> float:
    """The mean or the ratio; nan for a denominator of 0."""
    if sample.denominator is None:
        return float(sample.numerator.mean())
    below = float(sample.denominator.sum())
    return float(sample.numerator.sum()) / below if below else math.nan


def welch(treatment: Sample, control: Sample, *, adjusted: bool) -> Difference | None:
    """Welch's two-sided t-test of two means, or of two ratios by the delta method.

    The relative interval is that of the ratio of the values on the logarithmic scale.

    Args:
        treatment: of at least two units, and with a denominator above 0 if it has one.
        control: as well.
        adjusted: with CUPED, one coefficient for both arms together.

    Returns:
        None where nothing varies, or where the covariate leaves nothing.
    """
    arms = {"control": control, "treatment": treatment}
    sums = {name: aggregates(arm) for name, arm in arms.items()}
    denominator = None if control.denominator is None else "denominator"
    values = {name: value(arm) for name, arm in arms.items()}
    errors = {
        name: math.sqrt(max(one.ratio_var("numerator", denominator), 0) / one.count())
        for name, one in sums.items()
    }
    largest = max(abs(one) for one in values.values())
    if math.hypot(*errors.values()) <= _NOTHING * largest:
        return None
    pooled = sums["control"] + sums["treatment"]
    if adjusted and explained(pooled, ratio=denominator is not None) > 1 - _NOTHING:
        return None
    clear = all(values[name] > Z * errors[name] for name in arms)
    if not clear:
        # The test does not change if both values move alike; the engine's logarithm needs them
        # far above zero.
        shift = 10 * (largest + max(errors.values()))
        sums = {name: aggregates(arm, shift) for name, arm in arms.items()}
    found = engine(control, adjusted=adjusted).analyze(sums, **_OTHER)
    normal = engine(control, adjusted=adjusted, use_t=False).analyze(sums, **_OTHER)
    error = float(normal.effect_size_ci_upper - normal.effect_size_ci_lower) / (2 * Z)
    return _difference(found, error, normal if clear else None)


def _difference(found: Any, error: float, normal: Any) -> Difference:  # noqa: ANN401
    """From the engine's results; `normal` is None where there is no relative effect."""
    relative = interval = None
    log_error = 0.0
    if normal is not None and min(found.control, found.treatment) > 0:
        relative = float(found.rel_effect_size)
        interval = _interval(found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper)
        log_error = math.log1p(normal.rel_effect_size_ci_upper) - math.log1p(relative)
    return Difference(
        absolute=float(found.effect_size),
        interval=_interval(found.effect_size_ci_lower, found.effect_size_ci_upper),
        standard_error=error,
        relative=relative,
        relative_interval=interval,
        log_error=float(log_error) / Z,
        p_value=float(found.pvalue),
    )


def wald(values: tuple[float, float], errors: tuple[float, float]) -> Difference | None:
    """Two-sided normal test of two estimates.

    Args:
        values: of the treatment and the control.
        errors: their standard errors.

    Returns:
        None where both are certain.
    """
    error = math.hypot(*errors)
    if error <= _NOTHING * max(abs(one) for one in values):
        return None
    absolute = values[0] - values[1]
    relative = interval = None
    log_error = 0.0
    if all(one > Z * its for one, its in zip(values, errors, strict=True)):
        log_error = math.hypot(errors[0] / values[0], errors[1] / values[1])
        ratio, factor = values[0] / values[1], math.exp(Z * log_error)
        relative, interval = ratio - 1, _interval(ratio / factor - 1, ratio * factor - 1)
    return Difference(
        absolute=absolute,
        interval=_interval(absolute - Z * error, absolute + Z * error),
        standard_error=error,
        relative=relative,
        relative_interval=interval,
        log_error=log_error,
        p_value=float(2 * norm.sf(abs(absolute) / error)),
    )


def _interval(low: float, high: float) -> Interval:
    return Interval(low=float(low), high=float(high))
