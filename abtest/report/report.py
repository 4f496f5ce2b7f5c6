"""Report: which variant earned more, from the archived events alone.

`analyze` makes the numbers, `render_text` and `render_html` show them. The page is one file with
its charts inside; it needs no network.
"""

from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from abtest.analysis.measures import DayTotals, Latency, Measured, Measures, ReportError, measure
from abtest.analysis.statistics import (
    Interval,
    Lift,
    SampleRatio,
    lift,
    mean_interval,
    sample_ratio,
)
from abtest.report.verdict import REPLAY_NOTE, verdict
from abtest.split.config import ExperimentConfig
from abtest.split.experiment import Experiment

__all__ = ["Arm", "Day", "Report", "ReportError", "analyze", "render_html", "render_text"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Day(_Frozen):
    """Where a variant stood at the end of a day (UTC)."""

    day: date
    units: int
    """Units seen until then."""
    revenue_per_unit: float
    """Revenue until then, for each of them."""


class Arm(_Frozen):
    """One variant in numbers; money in currency units where not called micros."""

    name: str
    weight: float
    requests: int
    units: int
    items: int
    """Items recommended."""
    bought_items: int
    revenue_micros: int
    revenue_per_unit: float
    revenue_per_unit_interval: Interval | None
    revenue_per_1000_items: float
    click_rate: float
    """Share of the recommended items that was clicked."""
    conversion_rate: float
    """Share of the recommended items that was bought."""
    bought_per_request: float
    latency: Latency | None
    degraded_share: float
    """Share of the answers that were degraded."""
    days: tuple[Day, ...]


class Report(_Frozen):
    """The comparison of an experiment's variants under its current revision."""

    key: str
    revision: int
    control: str
    currency: str | None
    replay: bool
    crossed_units: int
    """Units seen in more than one variant, left out of everything else."""
    sample_ratio: SampleRatio
    arms: tuple[Arm, ...]
    lifts: tuple[Lift, ...]
    """Empty where the sample ratio check fails: it blocks every effect."""
    verdict: str
    notes: tuple[str, ...]


def analyze(
    events_folder: Path, config: ExperimentConfig, key: str, *, replay: bool = False
) -> Report:
    """Compare the variants of an experiment on its archived events.

    Forced traffic, other revisions and units seen in several variants are left out; duplicated
    events count once; refunds reduce revenue; a unit that bought nothing counts as zero.

    Args:
        events_folder: what `archive` wrote.
        config: the configuration that holds the experiment.
        key: of the experiment.
        replay: the traffic replays logged purchases, so the report says what that cannot show.

    Raises:
        ExperimentError: the configuration has no such experiment.
        ReportError: the events cannot be compared.
    """
    experiment = config.experiment(key)
    measured = measure(events_folder, experiment)
    totals = {name: found.totals for name, found in measured.by_variant.items()}
    if not any(total.units for total in totals.values()):
        raise ReportError(
            f"every household of {key} revision {experiment.revision} was seen in several variants "
            f"({measured.crossed_units}); change weights or variants only with a new revision"
        )
    weights = {variant.name: variant.weight for variant in experiment.variants}
    units = {name: total.units for name, total in totals.items()}
    ratio = sample_ratio(units, weights, experiment.control)
    tested = (
        lift(name, totals[name], totals[experiment.control])
        for name in totals
        if ratio.ok and name != experiment.control
    )
    lifts = tuple(found for found in tested if found is not None)
    return Report(
        key=key,
        revision=experiment.revision,
        control=experiment.control,
        currency=measured.currency,
        replay=replay,
        crossed_units=measured.crossed_units,
        sample_ratio=ratio,
        arms=_arms(experiment, measured),
        lifts=lifts,
        verdict=verdict(ratio, lifts, experiment.control, measured.currency),
        notes=_notes(measured.crossed_units, replay),
    )


def _arms(experiment: Experiment, measured: Measured) -> tuple[Arm, ...]:
    days = sorted({day.day for found in measured.by_variant.values() for day in found.days})
    return tuple(
        _arm(variant.name, variant.weight, measured.by_variant[variant.name], days)
        for variant in experiment.variants
    )


def _arm(name: str, weight: float, found: Measures, days: list[date]) -> Arm:
    revenue = found.totals.total_micros / 10**6
    return Arm(
        name=name,
        weight=weight,
        requests=found.requests,
        units=found.totals.units,
        items=found.items,
        bought_items=found.bought_items,
        revenue_micros=found.totals.total_micros,
        revenue_per_unit=found.totals.mean,
        revenue_per_unit_interval=mean_interval(found.totals),
        revenue_per_1000_items=_per(1000 * revenue, found.items),
        click_rate=_per(found.clicked_items, found.items),
        conversion_rate=_per(found.bought_items, found.items),
        bought_per_request=_per(found.bought_items, found.requests),
        latency=found.latency,
        degraded_share=found.degraded_share,
        days=_running(found.days, days),
    )


def _per(amount: float, count: int) -> float:
    return amount / count if count else 0.0


def _running(totals: tuple[DayTotals, ...], days: list[date]) -> tuple[Day, ...]:
    """Totals so far at the end of each of `days`, from the first on which the arm has units."""
    by_day = {total.day: total for total in totals}
    units = micros = 0
    running = []
    for day in days:
        if day in by_day:
            units += by_day[day].new_units
            micros += by_day[day].revenue_micros
        if units:
            running.append(Day(day=day, units=units, revenue_per_unit=micros / units / 10**6))
    return tuple(running)


def _notes(crossed_units: int, replay: bool) -> tuple[str, ...]:
    notes = []
    if crossed_units:
        notes.append(
            f"Households seen in more than one variant, left out: {crossed_units}. Weights or "
            "variants were changed without a new revision."
        )
    if replay:
        notes.append(REPLAY_NOTE)
    return tuple(notes)


def render_text(report: Report) -> str:
    """The report for a terminal of 100 columns, without colours."""
    from abtest.report.terminal import render

    return render(report)


def render_html(report: Report) -> str:
    """The report as one self-contained page with charts."""
    from abtest.report.page import render

    return render(report)
