"""Model: a report as it is written to JSON; what the dashboard, the page and the text show."""

from datetime import date, datetime
from typing import Literal

from abtest.analysis.metric import Frozen, Metric
from abtest.analysis.statistics.effect import (
    DayEffect,
    Decision,
    Effect,
    Exposure,
    Guard,
    Interval,
    Novelty,
    PolicyValue,
    Preference,
    SampleRatio,
    SegmentEffect,
)
from abtest.split.experiment import State


class Latency(Frozen):
    """Percentiles of the time an answer took inside the server, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class Day(Frozen):
    """Where a variant stood at the end of a day (UTC)."""

    day: date
    units: int
    """Units exposed until then."""
    revenue_per_unit: float
    """Revenue until then, for each of them, in currency units."""


class Arm(Frozen):
    """One variant in numbers; money in currency units where not called micros.

    An item counts once an answer, however often it was seen, clicked or bought.
    """

    name: str
    weight: float
    units: int
    requests: int
    items: int
    """Items recommended."""
    seen_items: int
    clicked_items: int
    bought_items: int
    revenue_micros: int
    """Exact; refunds are taken off."""
    revenue_per_unit: float
    revenue_per_unit_interval: Interval | None
    """Of the mean; None for fewer than two units."""
    revenue_per_1000_items: float
    click_rate: float
    """Clicked items as a share of the recommended ones."""
    conversion_rate: float
    """Bought items as a share of the recommended ones."""
    bought_per_request: float
    latency: Latency | None
    """None where nothing was answered."""
    degraded_share: float
    """Share of the answers that were degraded."""
    days: tuple[Day, ...]


class Interleaving(Frozen):
    """Which of two bundles users prefer, where their lists were merged by team draft."""

    a: str
    """Served name of the bundle of the control's parameters."""
    b: str
    """Served name of the bundle that its list was merged with."""
    clicks_a: int
    """Clicked items that this bundle had put into the list."""
    clicks_b: int
    purchases_a: int
    """Bought items that this bundle had put into the list."""
    purchases_b: int
    preference: Preference
    """By clicked items."""


class OffPolicy(Frozen):
    """What another way to choose variants would have earned, from the propensities in the log."""

    policy: str
    """In words."""
    value: PolicyValue
    """Of the primary metric, a unit."""


class Report(Frozen):
    """The comparison of an experiment's variants under its current revision.

    Where `sample_ratio.ok` is false every field of effects is empty: `primary`, `planned_day`,
    `planned`, `guards`, `secondary`, `segments`, `days`, `novelty`, `off_policy`, `interleaving`.
    """

    key: str
    revision: int
    state: State | Literal["holdout"]
    hypothesis: str
    layer: str
    unit: str
    """What was split: `user_id`, a field of the context, or `period` of a switchback."""
    control: str
    currency: str | None
    """None as long as nothing was bought."""
    as_of: datetime
    """When the report was made; it covers what was archived until then."""
    replay: bool
    """The traffic replays logged purchases."""
    units: int
    """Units of all variants that are compared."""
    planned_units: int | None
    sample_ratio: SampleRatio
    exposure: Exposure
    arms: tuple[Arm, ...]
    """In the order of the configuration."""
    metrics: dict[str, Metric]
    """Definitions of the metrics below, by name."""
    primary_metric: str
    primary: tuple[Effect, ...]
    """Each variant that could be tested; adjusted with Holm where there are several."""
    planned_day: date | None
    """The day on which the planned units were reached, after a full week at least."""
    planned: tuple[Effect, ...]
    """The primary metric at the end of that day: where the fixed horizon is read, once."""
    guards: tuple[Guard, ...]
    secondary: tuple[Effect, ...]
    """Adjusted with Holm over all secondary metrics and variants."""
    segments: tuple[SegmentEffect, ...]
    """Of the primary metric; adjusted with Benjamini-Hochberg over all."""
    days: tuple[DayEffect, ...]
    """Of the primary metric, each day and variant."""
    novelty: tuple[Novelty, ...]
    off_policy: tuple[OffPolicy, ...]
    interleaving: Interleaving | None
    """None where no answer was interleaved."""
    decision: Decision
    notes: tuple[str, ...]


class Summary(Frozen):
    """One line of a list of reports."""

    key: str
    revision: int
    state: State | Literal["holdout"]
    units: int
    call: str
    """Of the decision."""
    variant: str | None
    """The variant to ship."""
    headline: str
    as_of: datetime
    first_day: date
    """On which the first unit was exposed."""


def summarize(report: Report) -> Summary:
    """The line of a report."""
    return Summary(
        key=report.key,
        revision=report.revision,
        state=report.state,
        units=report.units,
        call=report.decision.call,
        variant=report.decision.variant,
        headline=report.decision.headline,
        as_of=report.as_of,
        first_day=report.exposure.first_day,
    )
