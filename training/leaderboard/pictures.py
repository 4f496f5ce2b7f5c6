"""Pictures of a leaderboard, in colours that the colour-blind tell apart (Okabe and Ito)."""

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.optimize import isotonic_regression

from training.intervals import Estimate
from training.leaderboard.board import REFERENCES, Board, Level, Row
from training.leaderboard.canvas import COLOURS, GREY, INK, MARKERS, MUTED, draw_png, finish

_COLUMNS = 5
"""Of panels, at most."""
_LINE_INCHES = 0.22
"""Height of a label and its air."""


class _Line(NamedTuple):
    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    marker: str


def draw_recall(board: Board) -> bytes:
    """Each method's recall, and its difference to the reference, with intervals, as a PNG.

    Two panels, because the interval of a difference is not what two intervals' overlap tells: what
    is hard for both sides cancels in it.

    Args:
        board: with at least one row.
    """
    rows, key = board.rows[::-1], board.deciding.key
    level = {board.rows[0].method, *board.level_with_leader}
    names = [row.method for row in rows]
    reference = next((name for name in REFERENCES if name in names), board.rows[0].method)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        right.axvline(0, color=MUTED, linewidth=1)
        for place, row in enumerate(rows):
            filled = row.method in level
            _dot(left, place, row.measures[key], row.method, filled=filled)
            found = row.gains.get(reference, {}).get(key)
            if found is not None:
                _dot(right, place, found.estimate, row.method, filled=filled, sign="+")
        left.set_yticks(range(len(rows)), names, color=INK)
        left.set_ylim(-0.7, len(rows) - 0.3)
        finish(left, board.deciding.title, "x")
        finish(right, f"difference to {reference}, request by request", "x")
        for tick, name in zip(left.get_yticklabels(), names, strict=True):
            tick.set_fontweight("bold" if name in REFERENCES else "normal")

    note = "95 % intervals over seeds and users. Filled: no difference beyond seeds to the best."
    if board.rows[0].seeds == 1:
        note = "One seed, so nothing is decided. 95 % intervals over users."
    inches = (11.0, 1.7 + 0.3 * len(rows))
    return draw_png(board, board.deciding.title, note, inches, draw)


def draw_negatives(board: Board) -> bytes:
    """Recall and time of a step against the number of sampled negatives, as a PNG.

    Args:
        board: with at least one number of negatives.
    """
    counts = sorted({level.negatives for levels in board.negatives.values() for level in levels})

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, title, of in zip(
            panels,
            (board.deciding.title, "milliseconds a training step"),
            (_recall, _step_ms),
            strict=True,
        ):
            lines = [
                _Line(name, [counts.index(one.negatives) for one in levels], [*map(of, levels)],
                      COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
                for index, (name, levels) in enumerate(board.negatives.items())
            ]  # fmt: skip
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_xticks(range(len(counts)), [str(count) for count in counts])
            axes.margins(x=0.05, y=0.12)
            finish(axes, "sampled negatives a request", "y")
            _draw_lines(figure, axes, lines)
        panels[1].set_ylim(bottom=0)

    return draw_png(board, "sampled negatives", "One seed.", (11, 4.2), draw)


def draw_compute(board: Board) -> bytes:
    """Recall over the seconds of training, a panel a method before all others, as a PNG.

    Args:
        board: with at least one row that has a curve.
    """
    rows = [row for row in board.rows if row.curve]
    reference = next((row for row in rows if row.method == REFERENCES[0]), None)
    columns = min(len(rows), _COLUMNS)
    lines = -(-len(rows) // columns)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
        for axes, row in itertools.zip_longest(panels, rows):
            if row is None:
                axes.set_visible(False)
                continue
            for other in rows:
                _curve(axes, other, GREY, 1)
            if reference is not None:
                _curve(axes, reference, COLOURS[1], 1.5)
            colour = COLOURS[1] if row is reference else COLOURS[0]
            _curve(axes, row, colour, 2)
            axes.set_title(row.method, loc="left", fontsize=10, color=colour, fontweight="bold")
            finish(axes, "", "y", ticks=4)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        low, high = _reading_range(rows)
        figure.axes[0].set_ylim(low, high)
        figure.axes[0].set_xlim(left=0)
        for axes, row in zip(figure.axes, rows, strict=False):
            end = row.curve[-1].recall
            if end < low:
                axes.annotate(f"below, ends at {end:.3f}", (0.97, 0.05), color=MUTED, ha="right",
                              xycoords="axes fraction")  # fmt: skip
        figure.supylabel(board.curve_title, fontsize=10)
        for axes in figure.axes[max(0, len(rows) - columns) : len(rows)]:
            axes.set_xlabel("seconds of training")
            axes.tick_params(labelbottom=True)

    name = "" if reference is None else f" and {reference.method} (orange)"
    note = (
        f"Each method (blue){name} before all others (grey). Mean over seeds; each point is the "
        "mean of the last twentieth of the run."
    )
    inches = (max(2.6 * columns, 9.0), 1.4 + 1.9 * lines)
    return draw_png(board, "recall against training time", note, inches, draw)


def _recall(level: Level) -> float:
    return level.recall.value


def _step_ms(level: Level) -> float:
    return level.step_ms


def _dot(
    axes: Axes, place: int, found: Estimate, method: str, *, filled: bool, sign: str = ""
) -> None:
    colour = COLOURS[1] if method in REFERENCES else COLOURS[0]
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2, zorder=2)
    axes.plot(
        [found.value], [place], marker="o", markersize=7, color=colour,
        markerfacecolor=colour if filled else "white", zorder=3,
    )  # fmt: skip
    axes.annotate(
        f"{found.value:{sign}.4f}", (1.02, place), xycoords=("axes fraction", "data"),
        va="center", color=INK,
    )  # fmt: skip


def _curve(axes: Axes, row: Row, colour: str, width: float) -> None:
    seconds, recalls = zip(*row.curve, strict=True)
    axes.plot(seconds, recalls, color=colour, linewidth=width, solid_capstyle="round")
    axes.plot(seconds[-1:], recalls[-1:], color=colour, marker="o", markersize=2 + width)


def _reading_range(rows: Sequence[Row]) -> tuple[float, float]:
    """Heights of all but the first quarter of each run, in which every method learns most.

    Methods that end far below the others do not press these together.
    """
    seen = [
        moment.recall
        for row in rows
        for moment in row.curve
        if moment.seconds >= row.curve[-1].seconds / 4
    ]
    high = max(seen)
    usual = high - statistics.median(row.curve[-1].recall for row in rows)
    low = max(min(seen), high - max(5 * usual, 0.2))
    air = 0.06 * (high - low) or 0.01
    return low - air, high + air


def _draw_lines(figure: Figure, axes: Axes, lines: Sequence[_Line]) -> None:
    """Draw lines and name each right of the axes, at its end's height or as near as there is room.

    A thin rule leads from the end of a line to its name.
    """
    for line in lines:
        axes.plot(line.x, line.y, color=line.colour, linewidth=1.8, marker=line.marker,
                  markersize=5, solid_capstyle="round")  # fmt: skip
        axes.plot(line.x[-1:], line.y[-1:], color=line.colour, marker=line.marker or "o",
                  markersize=5)  # fmt: skip
    axes.set_ylim(axes.get_ylim())  # what follows is placed by it
    low, high = axes.get_ylim()
    lines = sorted(lines, key=lambda line: line.y[-1])
    ends = np.array([(line.y[-1] - low) / (high - low) for line in lines])
    gap = _LINE_INCHES / (figure.get_figheight() - 1.5)
    steps = gap * np.arange(len(lines))
    for line, height in zip(lines, isotonic_regression(ends - steps).x + steps, strict=True):
        axes.annotate(
            line.name, (line.x[-1], line.y[-1]), xytext=(1.04, float(height)),
            textcoords="axes fraction", color=line.colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.colour, "linewidth": 0.6, "alpha": 0.6,
                        "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip
