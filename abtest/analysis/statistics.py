"""Statistics of a comparison: Welch's test on unit totals, and the sample ratio check.

The unit of randomisation is the unit of analysis: revenue is first summed for each unit, units that
bought nothing counting as zero, and the test is on those totals.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import tea_tasting as tt
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student
from tea_tasting.aggr import Aggregates

CONFIDENCE = 0.95
SAMPLE_RATIO_P = 5e-4
"""Below it, the split itself is broken and no effect may be read."""

_MICROS = 10**6
_COLUMN = "total"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Frozen):
    """A 95 % confidence interval."""

    low: float
    high: float


class Lift(_Frozen):
    """A variant against the control, in currency units a unit of analysis."""

    variant: str
    absolute: float
    absolute_interval: Interval
    relative: float | None
    """Share of the control's mean; None where a mean is not clearly above zero."""
    relative_interval: Interval | None
    p_value: float


class SampleRatio(_Frozen):
    """Whether as many units came to each variant as the weights say."""

    p_value: float
    """The smallest of the comparisons of a variant with the control."""
    ok: bool
    expected: dict[str, float]
    """Units each variant should have of all that came."""


class UnitTotals(NamedTuple):
    """Exact sums over the units of a variant, in micros, so that no order of adding matters."""

    units: int
    total_micros: int
    squares: int
    """Sum of squared unit totals, in square micros."""

    @property
    def mean(self) -> float:
        """Mean total of a unit, in currency units; 0 without units."""
        return self.total_micros / (self.units * _MICROS) if self.units else 0.0

    @property
    def variance(self) -> float:
        """Sample variance of a unit's total, in square currency units; needs two units."""
        n = self.units
        return (n * self.squares - self.total_micros**2) / (n * (n - 1) * _MICROS**2)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, in currency units; needs two units."""
        return math.sqrt(self.variance / self.units)


def mean_interval(totals: UnitTotals) -> Interval | None:
    """Student interval of a mean; None for fewer than two units."""
    if totals.units < 2:
        return None
    half = float(student.ppf((1 + CONFIDENCE) / 2, totals.units - 1)) * totals.standard_error
    return Interval(low=totals.mean - half, high=totals.mean + half)


def lift(variant: str, treatment: UnitTotals, control: UnitTotals) -> Lift | None:
    """Welch's t-test of a variant against the control.

    The relative interval is that of the ratio of means on the logarithmic scale (delta method).

    Returns:
        None where no test is possible: an arm has fewer than two units, or all totals are alike.
    """
    if min(treatment.units, control.units) < 2 or treatment.variance + control.variance == 0:
        return None
    arms = (treatment, control)
    has_ratio = all(arm.mean > arm.standard_error for arm in arms)
    # The test does not change if both means move alike, but its logarithm needs positive means.
    shift = 0.0 if has_ratio else 2 * sum(abs(arm.mean) + arm.standard_error for arm in arms)
    found = tt.Mean(
        _COLUMN, alternative="two-sided", confidence_level=CONFIDENCE, equal_var=False, use_t=True
    ).analyze(
        {"treatment": _aggregates(treatment, shift), "control": _aggregates(control, shift)},
        control="control",
        treatment="treatment",
    )
    return Lift(
        variant=variant,
        absolute=treatment.mean - control.mean,
        absolute_interval=Interval(low=found.effect_size_ci_lower, high=found.effect_size_ci_upper),
        relative=found.rel_effect_size if has_ratio else None,
        relative_interval=Interval(
            low=found.rel_effect_size_ci_lower, high=found.rel_effect_size_ci_upper
        )
        if has_ratio
        else None,
        p_value=found.pvalue,
    )


def _aggregates(totals: UnitTotals, shift: float) -> Aggregates:
    return Aggregates(
        count_=totals.units,
        mean_={_COLUMN: totals.mean + shift},
        var_={_COLUMN: totals.variance},
    )


def sample_ratio(
    units: Mapping[str, int], weights: Mapping[str, float], control: str
) -> SampleRatio:
    """Check the number of units of each variant against the control's, given their weights.

    Args:
        units: at least one unit in all, by variant.
        weights: share of each variant, by the same names.
        control: name of the control.
    """
    counts = {name: Aggregates(count_=count) for name, count in units.items()}
    check = tt.SampleRatio(dict(weights), method="auto", correction=True)
    p_value = min(
        check.analyze(counts, control=control, treatment=name).pvalue
        for name in units
        if name != control and units[name] + units[control] > 0
    )
    total = sum(units.values())
    return SampleRatio(
        p_value=p_value,
        ok=p_value >= SAMPLE_RATIO_P,
        expected={name: weights[name] * total for name in units},
    )
