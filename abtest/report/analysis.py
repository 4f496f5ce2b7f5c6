"""Analysis: from what was read of the log to a report, in the order in which it must be read.

The sample ratio comes first: where it fails, no effect is computed at all.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import NamedTuple

from abtest.analysis.metric import Metric
from abtest.analysis.readings.readings import Readings
from abtest.analysis.statistics.effect import (
    DayEffect,
    Effect,
    Exposure,
    Guard,
    Novelty,
    SampleRatio,
    SegmentEffect,
)
from abtest.analysis.statistics.novelty import novelty
from abtest.analysis.statistics.sample_ratio import SAMPLE_RATIO_P, sample_ratio
from abtest.report.arms import arms_of
from abtest.report.decision import decide
from abtest.report.effects import (
    effect_of,
    guards,
    primary_effects,
    secondary_effects,
    segment_effects,
)
from abtest.report.evidence import Evidence
from abtest.report.model import Interleaving, OffPolicy, Report
from abtest.report.policies import segment_policies
from abtest.report.timeline import planned_day, timeline
from abtest.report.trial import Trial, check_metrics
from abtest.report.wording import REPLAY_NOTE, p_text
from abtest.split.experiment import State

_DEGRADED = "degraded_share"


class ReportError(ValueError):
    """A report that cannot be made; the message names what is wrong and the remedy."""


def analyze(
    readings: Readings,
    trial: Trial,
    metrics: Mapping[str, Metric],
    *,
    as_of: datetime,
    interleaved: Interleaving | None = None,
) -> Report:
    """Compare the variants of a trial, and say what to do.

    Args:
        readings: what the archived events say about it.
        trial: an experiment's revision or a holdout.
        metrics: all that are declared, by name.
        as_of: now, with a time zone.
        interleaved: what `interleaving` found.

    Raises:
        ExperimentError: a metric of the trial is not declared.
        ReportError: every unit was seen in several variants.
    """
    check_metrics(trial, metrics)
    units = {name: found.units for name, found in readings.counts.items()}
    if not sum(units.values()):
        raise ReportError(
            f"every unit of {trial.subject.key} revision {trial.subject.revision} was seen in "
            f"several variants ({readings.crossed_units}) or forced ({readings.forced_units}); "
            "change weights or variants only with a new revision"
        )
    ratio = sample_ratio(units, trial.weights)
    exposure = _exposure(readings, trial, metrics, ratio)
    found = _Findings()
    if ratio.ok:
        found = _findings(readings, trial, metrics, as_of, interleaved)
    used = {name: metrics[name] for name in trial.used_metrics}
    return Report(
        key=trial.subject.key,
        revision=trial.subject.revision,
        state=trial.state,
        hypothesis=trial.hypothesis,
        layer=trial.layer,
        unit=trial.unit,
        control=trial.control,
        currency=readings.currency,
        as_of=as_of,
        replay=trial.replay,
        units=sum(units.values()),
        planned_units=trial.planned_units,
        sample_ratio=ratio,
        exposure=exposure,
        arms=arms_of(readings, trial, metrics),
        metrics=used,
        primary_metric=trial.primary_metric,
        **found._asdict(),
        decision=decide(_evidence(readings, trial, used, ratio, exposure, found)),
        notes=tuple(_notes(readings, trial, exposure)),
    )


class _Findings(NamedTuple):
    """What is computed only of a sound split; names and meaning are the report's."""

    primary: tuple[Effect, ...] = ()
    planned_day: date | None = None
    planned: tuple[Effect, ...] = ()
    guards: tuple[Guard, ...] = ()
    secondary: tuple[Effect, ...] = ()
    segments: tuple[SegmentEffect, ...] = ()
    days: tuple[DayEffect, ...] = ()
    novelty: tuple[Novelty, ...] = ()
    off_policy: tuple[OffPolicy, ...] = ()
    interleaving: Interleaving | None = None


def _evidence(
    readings: Readings,
    trial: Trial,
    metrics: dict[str, Metric],
    ratio: SampleRatio,
    exposure: Exposure,
    found: _Findings,
) -> Evidence:
    return Evidence(
        state=trial.state,
        control=trial.control,
        units=sum(counts.units for counts in readings.counts.values()),
        planned_units=trial.planned_units,
        ratio=ratio,
        exposure=exposure,
        metrics=metrics,
        primary_metric=trial.primary_metric,
        currency=readings.currency,
        primary=found.primary,
        planned_day=found.planned_day,
        planned=found.planned,
        guards=found.guards,
    )


def _findings(
    readings: Readings,
    trial: Trial,
    metrics: Mapping[str, Metric],
    as_of: datetime,
    interleaved: Interleaving | None,
) -> _Findings:
    metric = metrics[trial.primary_metric]
    planned = planned_day(readings, trial.planned_units, as_of)
    days = tuple(timeline(readings, trial, metric))
    slopes = (novelty(name, days) for name in trial.variants)
    return _Findings(
        primary=primary_effects(readings, trial, metric),
        planned_day=planned,
        planned=primary_effects(readings, trial, metric, until=planned) if planned else (),
        guards=tuple(guards(readings, trial, metrics)),
        secondary=secondary_effects(readings, trial, metrics),
        segments=segment_effects(readings, trial, metric),
        days=days,
        novelty=tuple(slope for slope in slopes if slope is not None),
        off_policy=segment_policies(readings, trial, metric),
        interleaving=interleaved,
    )


def _exposure(
    readings: Readings, trial: Trial, metrics: Mapping[str, Metric], ratio: SampleRatio
) -> Exposure:
    return Exposure(
        first_day=readings.days[0],
        last_day=readings.days[-1],
        crossed_units=readings.crossed_units,
        forced_units=readings.forced_units,
        unexposed_feedback=readings.unexposed_feedback,
        degraded_p_value=_degraded_p(readings, trial, metrics) if ratio.ok else None,
    )


def _degraded_p(readings: Readings, trial: Trial, metrics: Mapping[str, Metric]) -> float | None:
    """Whether degraded answers are as frequent in all variants: Bonferroni over the variants."""
    metric = metrics.get(_DEGRADED)
    if metric is None:
        return None
    found = (effect_of(readings, trial, metric, name) for name in trial.variants)
    p_values = [effect.p_value for effect in found if effect is not None]
    return min(1.0, min(p_values) * len(p_values)) if p_values else None


def _notes(readings: Readings, trial: Trial, exposure: Exposure) -> Iterator[str]:
    if trial.state == State.SHIPPED:
        yield f"Shipped: everybody gets {trial.winner}. The report tells of the time before."
    elif trial.state in (State.PAUSED, State.KILLED):
        yield f"The experiment is {trial.state}: nobody is split any more."
    if readings.clustered:
        yield (
            "A switchback: the units are periods of time in which everybody got the same variant. "
            "What a period does to the next one is not seen here."
        )
    if exposure.crossed_units:
        yield (
            f"Units seen in more than one variant, left out: {exposure.crossed_units:,}. Weights "
            "or variants were changed without a new revision, or the unit is not a stable id."
        )
    if exposure.forced_units:
        yield f"Units put into a variant by configuration, left out: {exposure.forced_units:,}."
    if exposure.degraded_p_value is not None and exposure.degraded_p_value < SAMPLE_RATIO_P:
        yield (
            "Degraded answers are not as frequent in all variants "
            f"(p = {p_text(exposure.degraded_p_value)}), so the variants are compared as they were "
            "served, not as they were meant."
        )
    if trial.replay:
        yield REPLAY_NOTE
