"""Forest: a row each, with a value as a dot and its interval as a line."""

from matplotlib.axes import Axes

from abtest.analysis.statistics.effect import Effect
from abtest.report.axis import colour, scale, short, unit
from abtest.report.drawing import INK
from abtest.report.model import Report
from abtest.report.wording import effect_text, money

ROW = 0.52
"""Height of a row, in inches."""
MAX_ROWS = 30


def revenue(axes: Axes, report: Report) -> None:
    """Revenue per unit of each variant."""
    for row, arm in enumerate(report.arms):
        interval = arm.revenue_per_unit_interval
        low, high = (interval.low, interval.high) if interval else (arm.revenue_per_unit,) * 2
        _dot(axes, row, (low, arm.revenue_per_unit, high), colour(report, arm.name))
        _label(axes, row, arm.revenue_per_unit, money(arm.revenue_per_unit, report.currency))
    _rows(axes, [arm.name for arm in report.arms])
    axes.set_xlabel(f"{report.currency or 'revenue'} per unit")


def primary(axes: Axes, report: Report) -> None:
    """Effect of each variant on the primary metric."""
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    metric = report.metrics[report.primary_metric]
    for row, effect in enumerate(report.primary):
        _dot(axes, row, _span(effect, report), colour(report, effect.variant))
        words = effect_text(effect, metric, report.currency)
        _label(axes, row, scale(report) * effect.absolute, words)
    _rows(axes, [effect.variant for effect in report.primary])
    axes.set_xlabel(f"{unit(report)} more than {report.control}")


def segments(axes: Axes, report: Report) -> None:
    """Effect in each segment, or in the largest ones."""
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    largest = sorted(report.segments, key=lambda found: -found.effect.units)[:MAX_ROWS]
    shown = [found for found in report.segments if found in largest]
    several = len({found.effect.variant for found in shown}) > 1
    for row, found in enumerate(shown):
        _dot(axes, row, _span(found.effect, report), colour(report, found.effect.variant), size=7)
    names = (
        f"{found.field} {found.value}" + (f", {found.effect.variant}" if several else "")
        for found in shown
    )
    _rows(axes, [short(name) for name in names])
    axes.set_xlabel(f"{unit(report)} more than {report.control}")


def _span(effect: Effect, report: Report) -> tuple[float, float, float]:
    factor = scale(report)
    return (
        factor * effect.interval.low,
        factor * effect.absolute,
        factor * effect.interval.high,
    )


def _dot(
    axes: Axes, row: int, span: tuple[float, float, float], colour: str, *, size: float = 10
) -> None:
    low, middle, high = span
    axes.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
    axes.plot([middle], [row], marker="o", markersize=size, color=colour)


def _label(axes: Axes, row: int, x: float, text: str) -> None:
    axes.annotate(text, (x, row), xytext=(0, 11), textcoords="offset points", ha="center")


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
