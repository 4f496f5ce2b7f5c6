"""Trend: the effect over time, with both intervals."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from abtest.analysis.statistics.effect import DayEffect
from abtest.report.axis import colour, dates, scale, unit
from abtest.report.drawing import HEIGHT, INK, WIDTH, Chart, draw
from abtest.report.model import Report


def trend(report: Report) -> Chart:
    """Where the effect of each variant stood, day by day, with both intervals."""
    variants = [arm.name for arm in report.arms if arm.name != report.control]
    shown = [name for name in variants if any(day.variant == name for day in report.days)]
    planned = "" if report.planned_day is None else " The dashed line is the day of the plan."
    return draw(
        "Effect over time",
        f"{report.metrics[report.primary_metric].title} against {report.control}, all events until "
        "the end of the day. Inner band: the 95 % interval, right if read once. Outer band: the "
        f"interval that is right however often it is looked at.{planned}",
        lambda panels: _over_time(panels, report, shown),
        panels=(len(shown), 1),
        width=2 * WIDTH,
        height=max(HEIGHT, 0.7 + 1.9 * len(shown)),
    )


def _over_time(panels: list[Axes], report: Report, variants: Sequence[str]) -> None:
    factor = scale(report)
    for axes, name in zip(panels, variants, strict=True):
        days = [day for day in report.days if day.variant == name]
        ink = colour(report, name)
        x = dates([day.day for day in days])
        for spans, opacity in (
            ([day.always_valid for day in days], 0.16),
            ([day.interval for day in days], 0.32),
        ):
            low = [np.nan if span is None else factor * span.low for span in spans]
            high = [np.nan if span is None else factor * span.high for span in spans]
            axes.fill_between(x, low, high, color=ink, alpha=opacity, linewidth=0)
        marker = "o" if len(days) == 1 else ""
        y = [factor * day.absolute for day in days]
        axes.plot(x, y, color=ink, linewidth=2.2, marker=marker)
        axes.axhline(0, color=INK, linewidth=1)
        if report.planned_day is not None:
            (planned,) = dates([report.planned_day])
            axes.axvline(planned, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(*_focus(days, factor))
        axes.set_ylabel(f"{name}\n{unit(report)}")
        axes.grid(visible=False, axis="x")


def _focus(days: Sequence[DayEffect], factor: float) -> tuple[float, float]:
    """Limits that show the later days whole; the first ones know so little that they are cut."""
    later = days[min(len(days) - 1, len(days) // 3) :]
    spans = [day.always_valid or day.interval for day in later]
    low = factor * min(0.0, *(span.low for span in spans), *(day.absolute for day in later))
    high = factor * max(0.0, *(span.high for span in spans), *(day.absolute for day in later))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
