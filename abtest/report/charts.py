"""Charts of a report, as SVG that takes its colours from the page around it.

Each chart is drawn with placeholder colours, which are then replaced by CSS variables, so that one
picture serves light and dark. Text stays text: it can be selected, searched and read aloud.
"""

import re
from collections.abc import Callable
from html import escape
from io import StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abtest.report.report import Report
from abtest.report.verdict import lift_text, money

_INK, _RULE = "#010203", "#020304"
_ARMS = ("#030401", "#030402", "#030403", "#030404", "#030405", "#030406")
_VARIABLES = {_INK: "var(--ink)", _RULE: "var(--rule)"} | {
    placeholder: f"var(--arm-{number})" for number, placeholder in enumerate(_ARMS)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "date.converter": "concise",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


class Chart(NamedTuple):
    """A drawn chart and its words."""

    title: str
    caption: str
    svg: str


def draw(report: Report) -> tuple[Chart, ...]:
    """Every chart the report has the data for."""
    charts = [
        _chart(
            "Revenue per household",
            "Mean of each variant with its 95 % interval.",
            lambda axes: _revenue(axes, report),
        ),
        _chart(
            "Revenue per household, day by day",
            "All revenue until the end of the day, over the households seen until then.",
            lambda axes: _days(axes, report),
        ),
        _chart(
            "Latency inside the server",
            "Milliseconds within which 50, 95 and 99 % of the answers were made.",
            lambda axes: _latency(axes, report),
        ),
    ]
    if report.lifts:
        lifts = _chart(
            f"Lift against {report.control}",
            "Difference in revenue per household, with its 95 % interval. An interval across 0 "
            "leaves room for chance.",
            lambda axes: _lifts(axes, report),
        )
        charts.insert(1, lifts)
    return tuple(charts)


def _chart(title: str, caption: str, plot: Callable[[Axes], None]) -> Chart:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(6.2, 3.1), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        plot(axes)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Chart(title, caption, _inline(buffer.getvalue(), title, caption))


def _inline(svg: str, title: str, caption: str) -> str:
    """The drawing without file prolog and metadata, labelled and themed.

    Ids get a prefix, because those of one page must differ.
    """
    svg = svg[svg.index("<svg") :]
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}-", svg)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    label = escape(f"{title}. {caption}")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _colour(report: Report, name: str) -> str:
    names = [arm.name for arm in report.arms]
    return _ARMS[names.index(name) % len(_ARMS)]


def _revenue(axes: Axes, report: Report) -> None:
    for row, arm in enumerate(report.arms):
        interval = arm.revenue_per_unit_interval
        low, high = (interval.low, interval.high) if interval else (arm.revenue_per_unit,) * 2
        _dot(axes, row, (low, arm.revenue_per_unit, high), _colour(report, arm.name))
        _label(axes, row, arm.revenue_per_unit, money(arm.revenue_per_unit, report.currency))
    _rows(axes, [arm.name for arm in report.arms])
    axes.set_xlabel(f"{report.currency or 'revenue'} per household")


def _lifts(axes: Axes, report: Report) -> None:
    axes.axvline(0, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    for row, lift in enumerate(report.lifts):
        interval = lift.absolute_interval
        _dot(axes, row, (interval.low, lift.absolute, interval.high), _colour(report, lift.variant))
        _label(axes, row, lift.absolute, lift_text(lift, report.currency))
    _rows(axes, [lift.variant for lift in report.lifts])
    axes.set_xlabel(f"{report.currency or 'revenue'} per household more than {report.control}")


def _dot(axes: Axes, row: int, span: tuple[float, float, float], colour: str) -> None:
    low, middle, high = span
    axes.plot([low, high], [row, row], color=colour, linewidth=3, solid_capstyle="round")
    axes.plot([middle], [row], marker="o", markersize=10, color=colour)


def _label(axes: Axes, row: int, x: float, text: str) -> None:
    axes.annotate(text, (x, row), xytext=(0, 11), textcoords="offset points", ha="center")


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)


def _days(axes: Axes, report: Report) -> None:
    for arm in report.arms:
        axes.plot(
            np.array([day.day for day in arm.days], dtype="datetime64[D]"),
            [day.revenue_per_unit for day in arm.days],
            color=_colour(report, arm.name),
            linewidth=2.2,
            marker="o",
            markersize=3.5,
            label=arm.name,
        )
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_ylabel(f"{report.currency or 'revenue'} per household")
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, loc="lower right")


def _latency(axes: Axes, report: Report) -> None:
    arms = [(arm, arm.latency) for arm in report.arms if arm.latency is not None]
    width = 0.8 / len(arms)
    for number, (arm, latency) in enumerate(arms):
        places = [group - 0.4 + width * (number + 0.5) for group in range(len(latency))]
        bars = axes.bar(
            places, latency, width * 0.92, color=_colour(report, arm.name), label=arm.name
        )
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=9)
    axes.set_xticks(range(3), ["p50", "p95", "p99"])
    axes.set_ylabel("ms")
    axes.margins(y=0.12)
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, loc="upper left")
