"""Comparison: a variant against the control on one metric, from the numbers of their units."""

import math

import numpy as np
from scipy.stats import norm

from abtest.analysis.metric import Kind, Metric
from abtest.analysis.sample import Sample, Values
from abtest.analysis.statistics.aggregates import adjustable
from abtest.analysis.statistics.capping import cap
from abtest.analysis.statistics.difference import Difference, Z, value, wald, welch
from abtest.analysis.statistics.effect import POWER, AnalysisError, Effect, Interval
from abtest.analysis.statistics.quantile import quantile
from abtest.analysis.statistics.sequential import always_valid
from abtest.analysis.statistics.skewness import skewness_warning

FEW_UNITS = 100
"""Fewer in an arm make intervals rough."""
_DETECTED = Z + float(norm.ppf(POWER))
"""Standard errors that an effect must have to be found with that power."""
_LARGEST_LOG = 20.0
"""A relative interval of a factor of exp(20) tells nothing."""


def compare(
    metric: Metric,
    variant: str,
    treatment: Sample,
    control: Sample,
    *,
    planned_units: int | None = None,
) -> Effect | None:
    """Effect on a mean or a ratio: Welch's test on units, capped and adjusted as the metric says.

    A ratio is clustered by unit with the delta method. CUPED is used where the metric asks for it
    and the covariates vary. docs/statistics.md has every formula.

    Args:
        metric: a mean or a ratio.
        variant: name of the treatment.
        treatment: numbers of its units.
        control: numbers of the control's units.
        planned_units: units of both arms at which the confidence sequence is tightest. It must be
            decided before the data: one that follows the data breaks the sequence.

    Returns:
        None where no test is possible: an arm has fewer than two units or a denominator of 0, or
        nothing varies.

    Raises:
        AnalysisError: the metric is a quantile, or the samples do not fit it.

    Source: Welch (1947); Deng, Xu, Kohavi & Walker (2013), *Improving the Sensitivity of Online
    Controlled Experiments by Utilizing Pre-Experiment Data*, WSDM; Deng, Knoblich & Lu (2018),
    *Applying the Delta Method in Metric Analytics*, KDD.
    """
    treatment = fitted(metric, treatment, variant)
    control = fitted(metric, control, "the control")
    arms = (len(treatment.numerator), len(control.numerator))
    if min(arms) < 2 or not _has_denominator(treatment, control):
        return None
    method = "Welch's t-test" if metric.kind is Kind.MEAN else "Welch's t-test, delta method"
    notes: list[str] = []
    if metric.cap_quantile is not None:
        treatment, control, limit = cap(treatment, control, metric.cap_quantile)
        if limit is None:
            notes.append(f"nothing is capped: the {metric.cap_quantile:g} quantile is not above 0")
        else:
            method += f", capped at {limit:g}"
    plain = welch(treatment, control, adjusted=False)
    if plain is None:
        return None
    found, saved = plain, None
    if metric.covariate_days and adjustable(treatment, control):
        adjusted = welch(treatment, control, adjusted=True)
        if adjusted is not None:
            found, method = adjusted, f"{method}, CUPED"
            saved = 1 - (adjusted.standard_error / plain.standard_error) ** 2
    notes += _few(variant, arms)
    notes += skewness_warning({variant: treatment, "control": control})
    values = (value(treatment), value(control))
    return _effect(metric, variant, found, values, arms, planned_units).model_copy(
        update={"variance_reduction": saved, "method": method, "warnings": tuple(notes)}
    )


def compare_values(
    metric: Metric,
    variant: str,
    treatment: Values,
    control: Values,
    *,
    planned_units: int | None = None,
) -> Effect | None:
    """Effect on a quantile of events, clustered by unit; see `quantile`.

    Args:
        metric: a quantile.
        variant: name of the treatment.
        treatment: values of its units.
        control: values of the control's units.
        planned_units: as in `compare`.

    Returns:
        None where no test is possible: an arm has too few values to tell, or they do not vary.

    Raises:
        AnalysisError: the metric is not a quantile, or values are not finite.
    """
    treated, level = fitted_values(metric, treatment, variant)
    controlled, _ = fitted_values(metric, control, "the control")
    new, old = quantile(treated, level), quantile(controlled, level)
    if new is None or old is None:
        return None
    values = (new.value, old.value)
    errors = (new.standard_error, old.standard_error)
    found = wald(values, errors)
    if found is None:
        return None
    arms = (treatment.number_units, control.number_units)
    return _effect(metric, variant, found, values, arms, planned_units).model_copy(
        update={"warnings": _few(variant, arms)}
    )


def fitted(metric: Metric, sample: Sample, name: str) -> Sample:
    """The columns that the metric uses, scaled and checked; the rest is left out.

    Raises:
        AnalysisError: the metric is a quantile, a ratio's denominator is missing, columns differ in
            length, or a number is not finite.
    """
    if metric.kind is Kind.QUANTILE:
        raise AnalysisError(
            f"metric {metric.name}: kind == quantile must be mean or ratio to compare samples; "
            "compare its values"
        )
    ratio = metric.kind is Kind.RATIO
    if ratio and sample.denominator is None:
        raise AnalysisError(
            f"metric {metric.name}: the sample of {name} must have a denominator, as it is a ratio"
        )
    before = metric.covariate_days > 0
    used = Sample(
        sample.numerator if metric.scale == 1 else sample.numerator * metric.scale,
        sample.denominator if ratio else None,
        sample.covariate if before else None,
        sample.covariate_denominator if before and ratio else None,
    )
    lengths = {column: len(numbers) for column, numbers in used._asdict().items()
               if numbers is not None}  # fmt: skip
    if len(set(lengths.values())) > 1:
        raise AnalysisError(
            f"metric {metric.name}: the columns of {name} have {lengths} numbers; each must have "
            "one a unit"
        )
    _check_finite(metric, name, *(column for column in used if column is not None))
    return used


def fitted_values(metric: Metric, values: Values, name: str) -> tuple[Values, float]:
    """The values, scaled and checked, and the level of the quantile.

    Raises:
        AnalysisError: the metric is not a quantile, or a value is not finite.
    """
    if metric.quantile is None:
        raise AnalysisError(
            f"metric {metric.name}: kind == {metric.kind} must be quantile to compare values; "
            "compare its samples"
        )
    _check_finite(metric, name, values.values)
    scaled = values.values if metric.scale == 1 else values.values * metric.scale
    return values._replace(values=scaled), metric.quantile


def _check_finite(metric: Metric, name: str, *columns: np.ndarray) -> None:
    if not all(np.isfinite(column).all() for column in columns):
        raise AnalysisError(
            f"metric {metric.name}: the numbers of {name} must be finite; count what is missing "
            "as 0, or leave its unit out"
        )


def _has_denominator(*arms: Sample) -> bool:
    return all(arm.denominator is None or arm.denominator.sum() > 0 for arm in arms)


def _few(variant: str, arms: tuple[int, int]) -> tuple[str, ...]:
    return tuple(
        f"{name} has {count} units: below {FEW_UNITS}, intervals are rough"
        for name, count in zip((variant, "control"), arms, strict=True)
        if count < FEW_UNITS
    )


def _effect(
    metric: Metric,
    variant: str,
    found: Difference,
    values: tuple[float, float],
    arms: tuple[int, int],
    planned_units: int | None,
) -> Effect:
    return Effect(
        metric=metric.name,
        variant=variant,
        control_value=values[1],
        variant_value=values[0],
        absolute=found.absolute,
        interval=found.interval,
        relative=found.relative,
        relative_interval=found.relative_interval,
        p_value=found.p_value,
        always_valid=always_valid(found.absolute, found.standard_error, arms, planned_units),
        always_valid_relative=_always_valid_relative(found, arms, planned_units),
        units=sum(arms),
        detectable=_DETECTED * found.standard_error,
        method="delta method of quantiles",
    )


def _always_valid_relative(
    found: Difference, arms: tuple[int, int], planned_units: int | None
) -> Interval | None:
    """On the logarithmic scale, by the delta method."""
    if found.relative is None:
        return None
    log = always_valid(math.log1p(found.relative), found.log_error, arms, planned_units)
    if log is None or log.high - log.low > _LARGEST_LOG:
        return None
    return Interval(low=math.expm1(log.low), high=math.expm1(log.high))
