"""Effect: what a comparison found. Results of all analyses, as they are written to JSON."""

from datetime import date

from abtest.analysis.metric import Frozen


class Interval(Frozen):
    """A 95 % interval."""

    low: float
    high: float


class Effect(Frozen):
    """A variant against the control, on one metric, in the metric's own units."""

    metric: str
    variant: str
    control_value: float
    variant_value: float
    absolute: float
    """Difference of the values; with CUPED of the adjusted ones."""
    interval: Interval
    """Fixed horizon: right if it is read once, at the planned number of units."""
    relative: float | None
    """Share of the control's value; None where a value is not clearly above zero."""
    relative_interval: Interval | None
    p_value: float
    """Two-sided, fixed horizon."""
    p_adjusted: float | None = None
    """For the number of metrics or segments it was tested with."""
    always_valid: Interval | None = None
    """Confidence sequence: right however often it is looked at. Of means and ratios."""
    units: int
    """Of both arms."""
    variance_reduction: float | None = None
    """Share of the variance that CUPED took away; None without."""
    detectable: float | None = None
    """Smallest absolute effect that these units show with 80 % power."""
    method: str
    """Of the test, in words."""
    warnings: tuple[str, ...] = ()


class SampleRatio(Frozen):
    """Whether as many units came to each variant as the weights say (Fabijan et al. 2019)."""

    p_value: float
    """Chi-squared test over all variants."""
    ok: bool
    """False below 5e-4: something is broken, and no effect may be read."""
    expected: dict[str, float]
    """Units each variant should have of all that came."""


class Exposure(Frozen):
    """Whether the comparison is of who it should be of."""

    first_day: date
    last_day: date
    crossed_units: int
    """Seen in more than one variant; left out."""
    forced_units: int
    """Put into a variant by configuration; left out."""
    unexposed_feedback: int
    """Events of feedback about answers that were not split by this experiment's revision, or before
    the unit's first exposure; left out."""
    degraded_p_value: float | None
    """Whether degraded answers are as frequent in all variants; a small value warns."""


class Guard(Frozen):
    """A guardrail and what was found."""

    effect: Effect
    tolerance: float
    """Accepted harm as a share of the control's value."""
    harm: Interval | None
    """Always-valid interval of the harm, as a share of the control's value; positive is harm."""
    broken: bool
    """The whole interval is beyond the tolerance: more harm than accepted, for sure."""


class SegmentEffect(Frozen):
    """An effect among the units of one segment; adjusted with Benjamini-Hochberg over all."""

    field: str
    value: str
    effect: Effect


class DayEffect(Frozen):
    """Where the primary metric stood at the end of a day (UTC)."""

    day: date
    variant: str
    units: int
    """Of both arms until then."""
    absolute: float
    interval: Interval
    always_valid: Interval | None
    that_day: float | None
    """Effect among the events of that day alone, for units exposed by then."""


class Novelty(Frozen):
    """Whether the effect of a variant fades or grows with the days a unit has been exposed."""

    variant: str
    slope_per_day: float
    p_value: float
    fades: bool
    grows: bool


class Plan(Frozen):
    """How many units a test needs, from history."""

    metric: str
    baseline: float
    relative_effect: float
    units_per_variant: int
    days: float | None
    """At the traffic of the history; None where it is too short to say."""
    power: float
    alpha: float
    variance_reduction: float | None


class Decision(Frozen):
    """What to do."""

    call: str
    """`ship`, `stop`, `wait`, `hold` or `blocked`: ship the variant, stop for harm, wait for the
    planned units, keep the control for want of an effect, or mend the experiment first."""
    variant: str | None
    """The variant to ship."""
    headline: str
    """One sentence."""
    reasons: tuple[str, ...]
    """Plain words, the most important first."""
