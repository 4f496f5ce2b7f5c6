"""The picture: throughput and p99 against concurrency, a column a ranker."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.serving.contenders import OURS
from benchmarks.serving.floor import BATCHES
from benchmarks.serving.results import Point, Served, median, points_of

INK, RULE, MUTED = "#24292f", "#d8dee4", "#6e7781"
COLOURS = ("#d55e00", "#6e7781", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00")
"""Told apart by the colour-blind (Okabe and Ito); ours first."""
MARKERS = "os^vDPX"
FLOORS = {batch: f"in-process floor, batch {batch}" for batch in BATCHES}
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(served: Served, names: Sequence[str], path: Path) -> None:
    """Draw the servers, in the order of `names`, and the floor."""
    rankers = list(dict.fromkeys(point.ranker for point in served.points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.5 * len(rankers) + 1.5, 8.4), layout="constrained")
        grid = figure.subplots(2, len(rankers), squeeze=False, sharex=True)
        for column, ranker in enumerate(rankers):
            above, below = grid[0][column], grid[1][column]
            above.set_title(f"{ranker.upper()} ranker", loc="left", fontweight="bold")
            _draw_lines(above, served, names, ranker, lambda point: point.requests_per_s)
            _draw_floor(above, served, ranker)
            above.set_ylim(bottom=0)
            _draw_lines(below, served, names, ranker, lambda point: point.p99_ms)
            below.set_yscale("log")
            below.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            below.yaxis.set_minor_locator(NullLocator())
            below.set_xlabel("connections")
        grid[0][0].set_ylabel("requests a second")
        grid[1][0].set_ylabel("99th percentile, ms")
        # Of all panels: who has no numbers with one ranker may have some with another.
        lines = {line.get_label(): line for axes in grid[0] for line in axes.get_lines()}
        order = [label for label in (*names, *FLOORS.values()) if label in lines]
        figure.legend(
            [lines[label] for label in order],
            order,
            loc="outside lower center",
            ncols=5,
            frameon=False,
            fontsize=10,
        )
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_lines(
    axes: Axes,
    served: Served,
    names: Sequence[str],
    ranker: str,
    value: Callable[[Point], float],
) -> None:
    concurrencies = sorted({p.concurrency for p in served.points if p.ranker == ranker})
    places = range(len(concurrencies))
    for index, name in enumerate(names):
        medians = [median(points_of(served, name, ranker, c), value) for c in concurrencies]
        if all(map(math.isnan, medians)):
            continue
        axes.plot(
            places,
            medians,
            label=name,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            linewidth=2.8 if name == OURS else 1.6,
            zorder=3 if name == OURS else 2,
        )
    axes.set_xticks(places, [str(concurrency) for concurrency in concurrencies])
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_floor(axes: Axes, served: Served, ranker: str) -> None:
    for batch, dashes in zip(FLOORS, ((4, 2), (1, 1.5)), strict=True):
        rows = [f for f in served.floors if (f.ranker, f.batch) == (ranker, batch)]
        rate = median(rows, lambda floor: floor.requests_per_s)
        if not math.isnan(rate):
            axes.axhline(
                rate,
                color=MUTED,
                linestyle=(0, dashes),
                linewidth=1.4,
                label=FLOORS[batch],
            )
