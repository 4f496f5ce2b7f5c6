"""Pictures of the results, log-log, in colours that the colour-blind tell apart (Okabe and Ito).

Legend: B rows, N candidates.
"""

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from benchmarks.operators.contenders import masks
from benchmarks.operators.growth import Growth, fit
from benchmarks.operators.loss import LossCase
from benchmarks.operators.mask import MaskCase
from benchmarks.operators.timing import Absent, spread

INK, RULE, MUTED = "#24292f", "#d8dee4", "#6e7781"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vPX"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "xtick.color": INK,
    "ytick.color": INK,
}
GAP = 0.036
"""Least distance between two labels, of the height of the axes."""

End = tuple[float, float, str, str]
"""Where a line ends, what it is called, its colour."""


def draw_times(losses: list[LossCase], masks: list[MaskCase], device: str, path: Path) -> None:
    """The loss against the size of the batch, and the masks in a row for each contender."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        _draw_losses(left, losses)
        left.set_title(
            f"Loss, forward and backward, {device.upper()}", loc="left", fontweight="bold"
        )
        _draw_masks(right, masks)
        right.set_title("Soft masks, this library in bold", loc="left", fontweight="bold")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def draw_growth(growth: Growth, device: str, path: Path) -> None:
    """Time of a row against N, each line named with its fitted exponent."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        axes = figure.subplots()
        ends: list[End] = []
        for index, (name, points) in enumerate(growth.items()):
            if not points:
                continue
            colour, found = COLOURS[index % len(COLOURS)], fit(points)
            _line(axes, [p.n for p in points], [p.row_us for p in points], index)
            power = "" if found is None else f"  $N^{{{found.exponent:.2f}}}$"
            ends.append((points[-1].n, points[-1].row_us, f"{name}{power}", colour))
        _finish(axes, "N, candidates of a row", "microseconds a row")
        axes.set_xscale("log")
        _label(axes, ends)
        title = f"Time against N, forward and backward, {device.upper()}"
        axes.set_title(title, loc="left", fontweight="bold")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_losses(axes: Axes, cases: list[LossCase]) -> None:
    cases = sorted(cases, key=lambda case: case.shape[0] * case.shape[1])
    ends: list[End] = []
    for index, name in enumerate(cases[0].times):
        here = [(place, case.times[name]) for place, case in enumerate(cases)]
        drawn = [(place, spread(us).median) for place, us in here if not isinstance(us, Absent)]
        if drawn:
            places, medians = zip(*drawn, strict=True)
            _line(axes, list(places), list(medians), index)
            ends.append((places[-1], medians[-1], name, COLOURS[index % len(COLOURS)]))
    floors = [case.floor_memory for case in cases]
    axes.plot(range(len(cases)), floors, color=MUTED, linestyle="--", linewidth=1.5)
    ends.append((len(cases) - 1, floors[-1], "12 bytes copied", MUTED))
    _finish(axes, "", "microseconds")
    axes.set_ylim(bottom=min(spread(case.copy).median for case in cases) / 2)
    names = [f"{b} x {n:,}" for b, n in (case.shape for case in cases)]
    axes.set_xticks(range(len(cases)), names, rotation=35, ha="right", fontsize=9)
    _label(axes, ends)


def _draw_masks(axes: Axes, cases: list[MaskCase]) -> None:
    def key(name: str) -> float:
        found = [us for case in cases for us in [case.times[name]] if not isinstance(us, Absent)]
        return statistics.fmean(spread(us).median for us in found[:1])

    ours = {contender.name for contender in masks() if contender.ours}
    drawn = [n for n in cases[0].times if any(not isinstance(c.times[n], Absent) for c in cases)]
    names = sorted(drawn, key=key, reverse=True)
    for index, case in enumerate(cases):
        here = [(name, case.times[name]) for name in names]
        axes.plot(
            [spread(us).median for _, us in here if not isinstance(us, Absent)],
            [names.index(name) for name, us in here if not isinstance(us, Absent)],
            linestyle="",
            marker=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            label=f"{case.shape[0]} x {case.shape[1]:,}",
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name in ours else "normal")
    axes.set_xlabel("microseconds (none shown: over 2 s or 4 GB)")
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor=RULE)


def _line(axes: Axes, x: list[int], y: list[float], index: int) -> None:
    style = "-" if index < len(COLOURS) else (0, (4, 1.5))
    axes.plot(
        x,
        y,
        color=COLOURS[index % len(COLOURS)],
        linestyle=style,
        linewidth=1.8,
        marker=MARKERS[index % len(MARKERS)],
        markersize=5,
    )


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Axes, ends: list[End]) -> None:
    """Name each line beside its end; names that would touch are moved apart.

    To its right, but above and to its left if it ends shortly before other lines do.
    """
    axes.set_ylim(axes.get_ylim())  # what follows is placed by it
    to_axes = axes.transData + axes.transAxes.inverted()
    for x in {end[0] for end in ends}:
        column = sorted(end for end in ends if end[0] == x)
        places = [to_axes.transform(end[:2]) for end in column]
        steps = GAP * np.arange(len(column))
        heights = isotonic_regression([y for _, y in places] - steps).x + steps
        furthest = max(end[0] for end in ends)
        free = x == furthest or x < furthest / 30
        aside, lift = (0.03, 0.0) if free else (-0.03, 0.03)
        for end, (across, _), height in zip(column, places, heights, strict=True):
            axes.annotate(
                end[2],
                end[:2],
                xytext=(across + aside, float(height) + lift),
                textcoords="axes fraction",
                color=end[3],
                fontsize=10,
                va="center",
                ha="left" if free else "right",
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": end[3], "linewidth": 0.6, "shrinkB": 4},
            )
