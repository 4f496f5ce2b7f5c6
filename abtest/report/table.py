"""Table: the rows of a report, worded once for the text and the page."""

from typing import NamedTuple

from abtest.analysis.statistics.effect import Effect, Guard
from abtest.report.model import Report
from abtest.report.wording import (
    effect_text,
    interval_text,
    p_text,
    percent,
    relative_interval_text,
    relative_text,
    value_text,
)


class Row(NamedTuple):
    """A label and one cell a column."""

    label: str
    cells: tuple[str, ...]


class Table(NamedTuple):
    """Rows under the headings of their columns; the first heading is that of the labels."""

    title: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]


def tables(report: Report) -> tuple[Table, ...]:
    """The tables of effects that the report has something for."""
    made = (_primary(report), _guards(report), _secondary(report), _segments(report))
    return tuple(table for table in made if table.rows)


def _primary(report: Report) -> Table:
    several = len(report.primary) > 1
    caption = (
        "The 95 % interval is right where it is read once, at the planned units; the always-valid "
        "interval however often it is looked at."
    )
    return Table(
        f"{report.metrics[report.primary_metric].title}: variants against {report.control}",
        f"{caption} p is adjusted with Holm for {len(report.primary)} variants."
        if several
        else caption,
        ("Variant", "Effect", "95 % interval", "Always valid", "Relative", "p"),
        tuple(
            Row(
                effect.variant,
                (
                    effect_text(effect, report.metrics[effect.metric], report.currency),
                    _interval(effect, report),
                    _always_valid(effect, report),
                    relative_text(effect.relative),
                    p_text(effect.p_adjusted if several else effect.p_value),
                ),
            )
            for effect in report.primary
        ),
    )


def _guards(report: Report) -> Table:
    return Table(
        "Guardrails",
        "Harm as a share of the control's value, by an interval that is right however often it is "
        "looked at. Broken: all of it is beyond what is accepted; holds: none of it is.",
        ("Metric", "Variant", "Harm", "Accepted", "State"),
        tuple(
            Row(
                report.metrics[guard.effect.metric].title,
                (
                    guard.effect.variant,
                    relative_interval_text(guard.harm),
                    percent(guard.tolerance),
                    guard_state(guard),
                ),
            )
            for guard in report.guards
        ),
    )


def guard_state(guard: Guard) -> str:
    """Whether a guardrail holds, in a word."""
    if guard.broken:
        return "BROKEN"
    if guard.harm is None:
        return "not known"
    return "holds" if guard.harm.high <= guard.tolerance else "not broken"


def _secondary(report: Report) -> Table:
    return Table(
        "Secondary metrics",
        f"p is adjusted with Holm for all {len(report.secondary)} comparisons of this table.",
        ("Metric", "Variant", report.control, "Effect", "95 % interval", "p adjusted"),
        tuple(
            Row(
                report.metrics[effect.metric].title,
                (
                    effect.variant,
                    value_text(
                        effect.control_value, report.metrics[effect.metric], report.currency
                    ),
                    effect_text(effect, report.metrics[effect.metric], report.currency),
                    _interval(effect, report),
                    p_text(effect.p_adjusted),
                ),
            )
            for effect in report.secondary
        ),
    )


def _segments(report: Report) -> Table:
    return Table(
        f"Segments: {report.metrics[report.primary_metric].title}",
        "p is adjusted with Benjamini-Hochberg over all segments. A segment is a place to look "
        "next, not a result to ship.",
        ("Segment", "Variant", "Units", "Effect", "95 % interval", "p adjusted"),
        tuple(
            Row(
                f"{found.field} = {found.value}",
                (
                    found.effect.variant,
                    f"{found.effect.units:,}",
                    effect_text(found.effect, report.metrics[found.effect.metric], report.currency),
                    _interval(found.effect, report),
                    p_text(found.effect.p_adjusted),
                ),
            )
            for found in report.segments
        ),
    )


def _interval(effect: Effect, report: Report) -> str:
    return interval_text(effect.interval, report.metrics[effect.metric], beside=effect.absolute)


def _always_valid(effect: Effect, report: Report) -> str:
    return interval_text(effect.always_valid, report.metrics[effect.metric], beside=effect.absolute)
