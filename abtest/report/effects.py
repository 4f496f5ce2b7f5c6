"""Effects: every comparison of a report, each by the test that its metric needs."""

from collections.abc import Iterator, Mapping
from datetime import date

from abtest.analysis.metric import Kind, Metric
from abtest.analysis.readings.readings import Readings
from abtest.analysis.statistics.comparison import compare, compare_values
from abtest.analysis.statistics.effect import Effect, Guard, SegmentEffect
from abtest.analysis.statistics.guard import guard
from abtest.analysis.statistics.multiplicity import adjust
from abtest.report.trial import Trial

MAX_SEGMENTS = 20
"""Values of a field that are told, those of the most units first."""


def effect_of(
    readings: Readings,
    trial: Trial,
    metric: Metric,
    variant: str,
    *,
    segment: tuple[str, str] | None = None,
    until: date | None = None,
    since: date | None = None,
) -> Effect | None:
    """A variant against the control; None where no test is possible.

    Args:
        readings: what was measured.
        trial: what is compared.
        metric: of any kind.
        variant: not the control.
        segment: field and value, for the units of one segment.
        until: as things stood at the end of that day.
        since: only what happened from that day on.
    """
    arms = trial.weights[variant] + trial.weights[trial.control]
    planned = None if trial.planned_units is None else max(2, round(trial.planned_units * arms))
    names = (variant, trial.control)
    if metric.kind is Kind.QUANTILE:
        new, old = (
            readings.values(metric, name, segment=segment, until=until, since=since)
            for name in names
        )
        return compare_values(metric, variant, new, old, planned_units=planned)
    treatment, control = (
        readings.sample(metric, name, segment=segment, until=until, since=since) for name in names
    )
    return compare(metric, variant, treatment, control, planned_units=planned)


def primary_effects(
    readings: Readings, trial: Trial, metric: Metric, until: date | None = None
) -> tuple[Effect, ...]:
    """Every variant on the primary metric; adjusted with Holm where there are several."""
    effects = tuple(
        effect
        for name in trial.variants
        if (effect := effect_of(readings, trial, metric, name, until=until)) is not None
    )
    return adjust(effects, "holm") if len(effects) > 1 else effects


def secondary_effects(
    readings: Readings, trial: Trial, metrics: Mapping[str, Metric]
) -> tuple[Effect, ...]:
    """Every variant on every secondary metric, adjusted with Holm over all of them.

    The primary metric is not of this family: it alone decides, and what decides is one question.
    """
    found = tuple(
        effect
        for metric in trial.secondary_metrics
        for name in trial.variants
        if (effect := effect_of(readings, trial, metrics[metric], name)) is not None
    )
    return adjust(found, "holm")


def guards(readings: Readings, trial: Trial, metrics: Mapping[str, Metric]) -> Iterator[Guard]:
    """Every guardrail of every variant that can be tested."""
    for rail in trial.guardrails:
        metric = metrics[rail.metric]
        for name in trial.variants:
            effect = effect_of(readings, trial, metric, name)
            if effect is not None:
                yield guard(metric, effect, rail.tolerance)


def segment_effects(readings: Readings, trial: Trial, metric: Metric) -> tuple[SegmentEffect, ...]:
    """The primary metric in each segment, adjusted with Benjamini-Hochberg over all."""
    found = [
        (field, value, effect)
        for field in trial.segments
        for value in list(readings.segment_values(field))[:MAX_SEGMENTS]
        for name in trial.variants
        if (effect := effect_of(readings, trial, metric, name, segment=(field, value))) is not None
    ]
    adjusted = adjust(tuple(effect for _, _, effect in found), "bh")
    return tuple(
        SegmentEffect(field=field, value=value, effect=effect)
        for (field, value, _), effect in zip(found, adjusted, strict=True)
    )
