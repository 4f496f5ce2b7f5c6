"""Canvas: what the pictures of a leaderboard have in common."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.leaderboard.board import Board

INK, RULE, MUTED = "#24292f", "#d8dee4", "#6e7781"
GREY = "#c4ccd4"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9", "#a67c00", "#000000")
MARKERS = "osD^vPX"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def finish(axes: Axes, x_label: str, grid: Literal["x", "y"], ticks: int = 6) -> None:
    """Name the x axis and rule one of the axes, nothing else."""
    axes.set_xlabel(x_label)
    (axes.xaxis if grid == "x" else axes.yaxis).set_major_locator(MaxNLocator(ticks))
    axes.grid(axis=grid, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw_png(
    board: Board,
    what: str,
    note: str,
    inches: tuple[float, float],
    draw: Callable[[Figure], None],
) -> bytes:
    """A PNG of what `draw` draws, with a title that names the leaderboard, and a note."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        figure.suptitle(f"{board.title}: {what}", x=0.01, ha="left",
                        fontweight="bold")  # fmt: skip
        draw(figure)
        figure.supxlabel(note, x=0.01, ha="left", fontsize=9, color=MUTED)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
