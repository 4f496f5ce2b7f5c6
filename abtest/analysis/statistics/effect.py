"""Effect: what a comparison found. Results of all analyses, as they are written to JSON."""

from datetime import date

from abtest.analysis.metric import Frozen

CONFIDENCE = 0.95
"""Of every interval."""
ALPHA = 0.05
"""Error rate that a two-sided test may have."""
POWER = 0.8
"""Chance to find an effect that is as large as planned for."""


class AnalysisError(ValueError):
    """Numbers that cannot be compared; the message names what, value, rule and remedy."""


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
    """Confidence sequence: right however often it is looked at; None for fewer than 100 units in an
    arm."""
    always_valid_relative: Interval | None = None
    """The same as a share of the control's value."""
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


class FalsePositives(Frozen):
    """How often an A/A test on history found an effect that is not there, by how it was read."""

    metric: str
    runs: int
    looks: int
    units: int
    fixed: float
    """Share of runs with p < 0.05 at the end; close to 0.05 where the test holds."""
    fixed_interval: Interval
    """Of the share, for so many runs (Wilson)."""
    always_valid: float
    """Share of runs in which the confidence sequence left zero at any look; at most 0.05."""
    always_valid_interval: Interval
    peeking: float
    """Share of runs with p < 0.05 at any look: what reading the fixed horizon daily would do."""
    peeking_interval: Interval


class PolicyValue(Frozen):
    """What a policy would have earned a decision, from decisions that another one took."""

    decisions: int
    taken: int
    """Decisions that both policies took alike."""
    effective_units: float
    """Effective sample size of the weights (Kish 1965)."""
    ips: float | None
    """Inverse propensity score estimate: unbiased; None where too little agrees to tell."""
    snips: float | None
    """Self-normalised estimate: slightly biased, and far steadier (Swaminathan & Joachims 2015)."""
    interval: Interval | None
    """Of the self-normalised estimate."""
    warnings: tuple[str, ...] = ()


class Preference(Frozen):
    """Which of two interleaved lists users took more from (Chapelle et al. 2012)."""

    units: int
    wins_a: int
    """Units that took more from A."""
    wins_b: int
    ties: int
    """Units that took as much from both, or nothing."""
    share_a: float | None
    """Of the units that took more from one, those that took it from A; None without any."""
    share_interval: Interval | None
    """Of that share (Wilson)."""
    p_value: float | None
    """Two-sided sign test on units."""
    difference: float | None
    """Mean over units of the credit of A less that of B."""
    difference_interval: Interval | None
    """Student interval of the difference."""
