"""Charts: latency and answers against load and over time, as SVG in the colours of its page.

Colours are drawn as placeholders and then replaced by CSS variables, so that one drawing serves
light and dark. Text stays text.
"""

import math
import re
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from loadtest.answer import Outcome
from loadtest.result import Knee, Measured, StepResult, find_knee, measured, steady
from loadtest.step import Loop
from loadtest.tally import Tally, window_s
from loadtest.wording import ms

_INK, _RULE, _BAND = "#010203", "#020304", "#030405"
_COLOURS = {
    "p50": "#040501", "p95": "#040502", "p99": "#040503", "offered": "#040504", "good": "#040505",
    Outcome.SHED: "#040506", Outcome.DEGRADED: "#040507", Outcome.FAILED: "#040508",
}  # fmt: skip
_VARIABLES = {_INK: "var(--ink)", _RULE: "var(--rule)", _BAND: "var(--band)"} | {
    placeholder: f"var(--{name})" for name, placeholder in _COLOURS.items()
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 11, "text.color": _INK, "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": _RULE, "grid.linewidth": 0.8,
    "xtick.color": _INK, "ytick.color": _INK, "xtick.major.size": 0, "ytick.major.size": 0,
    "ytick.minor.size": 0, "lines.linewidth": 2.2, "lines.markersize": 5, "legend.frameon": False,
}  # fmt: skip
_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_SIDES = (Outcome.SHED, Outcome.DEGRADED, Outcome.FAILED)


class Chart(NamedTuple):
    """A drawn chart and its words."""

    title: str
    caption: str
    svg: str


def draw(results: Sequence[StepResult], within_ms: float) -> tuple[Chart, ...]:
    """Every chart there is data for."""
    charts = []
    climbed = steady(result for result in results if result.step.study == "knee")
    if climbed:
        knee = find_knee(results)
        charts += [
            _chart(
                "Latency against load",
                "From the moment a visit was to be sent. Shaded: the load at which 99 % of the "
                f"answers stop coming within {within_ms:g} ms (dashed).",
                lambda axes: _latency(axes[0], climbed, knee, within_ms),
            ),
            _chart(
                "Answers against load",
                f"Goodput is valid answers within {within_ms:g} ms; dotted: all that was offered.",
                lambda axes: _answers(axes[0], climbed),
            ),
        ]
    for result in results:
        if result.step.loop is Loop.OPEN and result.step.study != "knee":
            charts.append(_course(result, within_ms))
    return tuple(charts)


def _chart(
    title: str, caption: str, plot: Callable[[Sequence[Axes]], None], rows: int = 1
) -> Chart:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(6.2, 3.6 + 0.8 * (rows - 1)), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        for one in axes:
            one.patch.set_alpha(0)
        plot(list(axes))
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Chart(title, caption, _inline(buffer.getvalue(), title, caption))


def _inline(svg: str, title: str, caption: str) -> str:
    """The drawing without prolog and metadata, labelled and themed, its ids made unique."""
    svg = svg[svg.index("<svg") :]
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\1{prefix}-", svg)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(f"{title}. {caption}")}" ', 1)


def _latency(axes: Axes, climbed: Sequence[Measured], knee: Knee, within_ms: float) -> None:
    rates = [one.phase.start for one in climbed]
    if knee.missed is not None:
        axes.axvspan(knee.carried or 0.0, knee.missed, color=_BAND, linewidth=0)
    axes.axhline(within_ms, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    for name, share in reversed(_PERCENTILES.items()):
        values = [one.recommend.latency.percentile_ms(share) for one in climbed]
        axes.plot(rates, values, marker="o", color=_COLOURS[name], label=name)
    _log_ms(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("visits a second offered")
    axes.legend(loc="upper left")


def _answers(axes: Axes, climbed: Sequence[Measured]) -> None:
    rates = [one.phase.start for one in climbed]
    axes.plot(
        [0, rates[-1]], [0, rates[-1]], color=_COLOURS["offered"], linestyle=":", linewidth=1.4
    )
    goodput = [one.recommend.in_time / one.phase.duration_s for one in climbed]
    axes.plot(rates, goodput, marker="o", color=_COLOURS["good"], label="goodput")
    for outcome in _SIDES:
        counts = [one.recommend.outcomes[outcome] / one.phase.duration_s for one in climbed]
        if any(counts):
            axes.plot(rates, counts, marker="o", color=_COLOURS[outcome], label=outcome.value)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("visits a second offered")
    axes.set_ylabel("a second")
    axes.legend(loc="upper left")


def _course(result: StepResult, within_ms: float) -> Chart:
    study = result.step.study
    return _chart(
        f"{study.capitalize()} over time",
        f"Above, what was offered and its goodput (valid within {within_ms:g} ms); below, latency "
        "by the second in which a visit was to be sent.",
        lambda axes: _windows(axes, result, within_ms),
        rows=2,
    )


def _windows(axes: Sequence[Axes], result: StepResult, within_ms: float) -> None:
    points = _points(result)
    times = [begin for begin, _, _ in points]
    above, below = axes
    offered = [tally.requests / length for _, length, tally in points]
    above.plot(times, offered, color=_COLOURS["offered"], label="offered", linewidth=1.8)
    goodput = [tally.in_time / length for _, length, tally in points]
    above.plot(times, goodput, color=_COLOURS["good"], label="goodput", linewidth=1.8)
    for outcome in _SIDES:
        rates = [tally.outcomes[outcome] / length for _, length, tally in points]
        if any(rates):
            above.plot(times, rates, color=_COLOURS[outcome], label=outcome.value, linewidth=1.8)
    above.set_ylim(bottom=0)
    above.set_ylabel("a second")
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, fontsize=9, borderpad=0)
    for name, share in reversed(_PERCENTILES.items()):
        values = [tally.latency.percentile_ms(share) for _, _, tally in points]
        below.plot(times, values, color=_COLOURS[name], label=name, linewidth=1.8)
    below.axhline(within_ms, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    _log_ms(below)
    below.set_xlabel("seconds")
    below.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, borderpad=0)


def _points(result: StepResult) -> list[tuple[float, float, Tally]]:
    """Middle and length of every full window in seconds, and its recommendations."""
    points = []
    offset_s = 0.0
    for one in measured([result]):
        length_s = window_s(one.phase.duration_s)
        for window in range(math.ceil(one.phase.duration_s / length_s)):
            begin_s = window * length_s
            actual_s = min(length_s, one.phase.duration_s - begin_s)
            if actual_s >= 0.5 * length_s:
                middle_s = offset_s + begin_s + actual_s / 2
                points.append((middle_s, actual_s, one.tally.windows[window]))
        offset_s += one.phase.duration_s
    return points


def _log_ms(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: ms(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("ms")
    axes.margins(y=0.12)
