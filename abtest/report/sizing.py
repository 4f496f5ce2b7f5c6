"""Sizing: what an experiment needs, from history, and in words."""

from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from abtest.analysis.metric import Frozen, Kind, Metric
from abtest.analysis.readings.history import History
from abtest.analysis.statistics.effect import ALPHA, FalsePositives, Interval, Plan
from abtest.analysis.statistics.planning import detectable_effect, plan
from abtest.report.evidence import FULL_WEEK_DAYS
from abtest.report.wording import percent, value_text

_COLUMNS = 100
_MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the planned units, for which the detectable effect is told."""


class Detectable(Frozen):
    """What so many units find."""

    units: int
    """Of all variants."""
    days: float | None
    relative_effect: float
    """Smallest that is found with the plan's power."""


class Sizing(Frozen):
    """A plan, and what other numbers of units would find."""

    plan: Plan
    planned_units: int
    """Of all variants: what goes into the experiment's configuration."""
    variants: int
    history_days: int
    history_units: int
    share: float
    """Of the traffic that comes into the experiment."""
    table: tuple[Detectable, ...]


def size(
    metric: Metric,
    history: History,
    *,
    relative_effect: float,
    power: float,
    variants: int,
    share: float = 1.0,
) -> Sizing:
    """Plan an experiment by history.

    Args:
        metric: what decides.
        history: over about as many days as the experiment would run.
        relative_effect: smallest effect worth finding, as a share of the value.
        power: chance to find it.
        variants: with the control.
        share: of the traffic that comes into the experiment.

    Raises:
        AnalysisError: a number is out of range, or history says too little about the metric.
    """
    taken, new_units = history.taken(metric), history.units_per_day()
    found = plan(metric, taken, relative_effect=relative_effect, power=power, variants=variants)
    planned = variants * found.units_per_variant
    rows = (max(2, round(found.units_per_variant * multiple)) for multiple in _MULTIPLES)
    return Sizing(
        plan=found.model_copy(update={"days": days_until(planned, new_units, share)}),
        planned_units=planned,
        variants=variants,
        history_days=len(history.days),
        history_units=history.units,
        share=share,
        table=tuple(
            Detectable(
                units=variants * each,
                days=days_until(variants * each, new_units, share),
                relative_effect=detectable_effect(
                    metric, taken, units_per_variant=each, power=power, variants=variants
                ),
            )
            for each in rows
        ),
    )


def days_until(units: int, new_units: tuple[int, ...], share: float) -> float | None:
    """Days until so many units have come into an experiment that takes a share of the traffic.

    It fills as the history did from its first day on: quickly at first, when everybody who is there
    often is new to it. Beyond the history it goes on at the pace of the later half of the days.

    Args:
        units: of all variants.
        new_units: units that came for the first time, by day of the history.
        share: of the traffic.

    Returns:
        None where no new units came in the later half.
    """
    total = 0.0
    for day, came in enumerate(new_units, start=1):
        total += share * came
        if total >= units:
            return float(day)
    later = new_units[len(new_units) // 2 :]
    pace = share * sum(later) / len(later)
    return len(new_units) + (units - total) / pace if pace else None


def render_sizing(found: Sizing, metric: Metric) -> str:
    """A plan as text."""
    made = found.plan
    return _render(
        Text(
            f"{metric.title}: {value_text(made.baseline, metric, None)} in "
            f"{found.history_days} days of history, {found.history_units:,} units, of which "
            f"{percent(found.share)} come into the experiment."
        ),
        Text(
            f"planned_units = {found.planned_units}  # {made.units_per_variant:,} for each of "
            f"{found.variants} variants, to find {percent(made.relative_effect, signed=True)} with "
            f"{100 * made.power:.0f} % power"
        ),
        Text(" ".join(_advice(found, metric))),
        _detectable_table(found),
    )


def _advice(found: Sizing, metric: Metric) -> Iterator[str]:
    days = found.plan.days
    if days is None:
        yield "No new units came of late, so there is no saying how long that takes."
    elif days < FULL_WEEK_DAYS:
        yield f"That takes about {days:,.0f} days; let it run a full week all the same."
    else:
        yield f"That takes about {days:,.0f} days."
    if days is not None and days > found.history_days:
        yield (
            "Units would be there longer than in this history, and what they add up grows: plan "
            "again with more --days, or start with a smaller wish."
        )
    saved = found.plan.variance_reduction
    if saved is None and metric.kind is not Kind.QUANTILE:
        yield "CUPED saves nothing here: no unit was there before these days."
    elif saved is not None:
        yield f"CUPED takes {percent(saved)} of the variance away, and so many units less."


def _detectable_table(found: Sizing) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD)
    for heading in ("Units", "Days", "Smallest effect found"):
        grid.add_column(heading, justify="right")
    for row in found.table:
        days = "n/a" if row.days is None else f"{row.days:,.0f}"
        grid.add_row(f"{row.units:,}", days, percent(row.relative_effect))
    return grid


def render_false_positives(found: FalsePositives, metric: Metric) -> str:
    """The outcome of A/A tests as text, with whether the error rates hold."""
    grid = Grid(box=box.SIMPLE_HEAD)
    grid.add_column("How it is read")
    for heading in ("False effects", "95 % interval", "Should be"):
        grid.add_column(heading, justify="right")
    rows = (
        ("once, at the end", found.fixed, found.fixed_interval, "5 %"),
        (f"always valid, {found.looks} looks", found.always_valid, found.always_valid_interval,
         "at most 5 %"),
        (f"p < 0.05 at any of {found.looks} looks", found.peeking, found.peeking_interval,
         "do not do that"),
    )  # fmt: skip
    for name, rate, interval, wanted in rows:
        grid.add_row(name, percent(rate), _span(interval), wanted)
    return _render(
        Text(f"{metric.title}: {found.runs:,} A/A experiments on {found.units:,} units of history"),
        grid,
        Text(verdict(found, metric)),
    )


def verdict(found: FalsePositives, metric: Metric) -> str:
    """Whether the platform's error rates hold, in a sentence or two."""
    can_be_capped = metric.kind is Kind.MEAN
    if found.always_valid_interval.low > ALPHA:
        remedy = "Cap it (cap_quantile in metrics.toml), or take" if can_be_capped else "Take"
        return (
            "The always-valid intervals err too often on this metric: do not let it decide. "
            f"{remedy} another."
        )
    if found.fixed_interval.low > ALPHA:
        remedy = "cap it (cap_quantile in metrics.toml), " if can_be_capped else ""
        return (
            f"The fixed-horizon test errs too often on this metric: {remedy}plan more units, or "
            "take another."
        )
    if found.fixed_interval.high < ALPHA:
        remedy = "; cap the metric to find more" if can_be_capped else ""
        return (
            "The platform's error rates hold. The fixed-horizon test is cautious here, as skewed "
            f"metrics make it: it finds less than planned{remedy}."
        )
    return "The platform's error rates hold on this metric."


def _span(interval: Interval) -> str:
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f} %"


def _render(*parts: RenderableType) -> str:
    console = Console(width=_COLUMNS, color_system=None, highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(Padding(part, (1, 0, 0, 0)))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
