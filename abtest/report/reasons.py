"""Reasons: the sentences of a decision."""

from collections.abc import Iterator, Mapping

from abtest.analysis.metric import Metric
from abtest.analysis.statistics.effect import Effect, Guard
from abtest.report.evidence import FULL_WEEK_DAYS, MAX_CROSSED_SHARE, Evidence
from abtest.report.wording import (
    count,
    difference_text,
    effect_text,
    interval_text,
    p_text,
    percent,
    relative_interval_text,
    relative_text,
)


def blocking(evidence: Evidence) -> Iterator[str]:
    """Why no effect may be read."""
    if not evidence.ratio.ok:
        yield (
            f"The units are not split as configured: sample ratio mismatch, p = "
            f"{p_text(evidence.ratio.p_value)}. Some traffic was assigned, served or logged "
            "differently in one variant; find out why, then start a new revision."
        )
    if evidence.crossed_share > MAX_CROSSED_SHARE:
        yield (
            f"{count(evidence.exposure.crossed_units, 'unit')} ({percent(evidence.crossed_share)}) "
            f"were seen in more than one variant, more than {percent(MAX_CROSSED_SHARE)}. Arms or "
            "weights were changed without a new revision, or the unit is not a stable id; mend "
            "that, then start a new revision."
        )


def missing(evidence: Evidence) -> Iterator[str]:
    """What a decision still waits for."""
    planned, units = evidence.planned_units, evidence.units
    if planned is None:
        yield (
            "No number of units was planned, so only the confidence sequence decides; "
            "`cascade plan` computes planned_units."
        )
    elif units < planned:
        days = round((planned - units) * evidence.days / units)
        yield (
            f"{units:,} of {planned:,} planned units have come; at this pace about "
            f"{count(max(1, days), 'day')} more."
        )
    if evidence.days < FULL_WEEK_DAYS:
        yield (
            f"{evidence.days} of {FULL_WEEK_DAYS} days have passed: weekdays differ, so a full "
            "week is needed."
        )
    elif planned is not None and units >= planned and evidence.planned_day is None:
        yield "The planned units have come; the result is read when the day (UTC) is over."


def numbers(effect: Effect, evidence: Evidence) -> str:
    """An effect with its intervals, as a part of a sentence."""
    metric = evidence.metric
    relative = "" if effect.relative is None else f" ({relative_text(effect.relative)})"
    sequence = ""
    if effect.always_valid is not None:
        words = interval_text(effect.always_valid, metric, beside=effect.absolute)
        sequence = f", always valid {words}"
    return (
        f"{title_of(metric)} of {effect.variant} against {evidence.control} "
        f"{effect_text(effect, metric, evidence.currency)}{relative}, 95 % interval "
        f"{interval_text(effect.interval, metric, beside=effect.absolute)}{sequence}, "
        f"p = {p_text(effect.p_value)}"
    )


def guard_text(guard: Guard, metrics: Mapping[str, Metric]) -> str:
    """A guardrail: which metric, which variant, and the interval that shows how it is."""
    metric, effect = metrics[guard.effect.metric], guard.effect
    if guard.harm is not None:
        harm = f"{relative_interval_text(guard.harm)} of the control's value"
    elif effect.always_valid is not None:
        harm = f"not known as a share, difference {interval_text(effect.always_valid, metric)}"
    else:
        harm = "not known yet"
    state = "is broken" if guard.broken else "is not broken"
    return (
        f"Guardrail {title_of(metric)} {state} by {effect.variant}: always-valid interval of the "
        f"harm {harm}, accepted {percent(guard.tolerance)}."
    )


def detectable(effect: Effect, evidence: Evidence) -> str:
    """The smallest effect that would have been found."""
    if effect.detectable is None:
        return "A smaller effect may still be there."
    smallest = difference_text(effect.detectable, evidence.metric, evidence.currency)
    share = ""
    if effect.control_value > 0:
        share = f" ({percent(effect.detectable / effect.control_value)} of the control's value)"
    return (
        f"Smallest effect of {effect.variant} that these units show with 80 % power: "
        f"{smallest.lstrip('+')}{share}. A smaller one may still be there."
    )


def at_plan(evidence: Evidence) -> str:
    """When the fixed horizon was read."""
    return f"At the planned {evidence.planned_units:,} units, reached on {evidence.planned_day},"


def title_of(metric: Metric) -> str:
    """A metric's title within a sentence."""
    return metric.title[:1].lower() + metric.title[1:]


def sentence(words: str) -> str:
    """Words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."
