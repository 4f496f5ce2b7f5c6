"""Learning curve: a run's validations as a picture."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from training.checkpoint import Validation, best_of

_INK, _RULE, _MUTED = "#24292f", "#d8dee4", "#6e7781"
_COLOURS = ("#0b6e99", "#c4622d", "#3a7d44")
_MARKERS = 40
"""The most values that are each marked by a dot."""


class Panel(NamedTuple):
    """One quantity of a run."""

    name: str
    values: Sequence[float]
    kept: int | None = None
    """Number of the value to ring: the one whose weights are kept."""


def draw_curve(title: str, validations: Sequence[Validation]) -> bytes:
    """Loss, recall@20 and revenue@20 over the requests seen, as a PNG.

    Args:
        title: stands above the picture.
        validations: at least one.
    """
    best = validations.index(best_of(tuple(validations)))
    panels = (
        Panel("training loss", [line.loss for line in validations]),
        Panel("recall@20, validation", [line.recall for line in validations], best),
        Panel("revenue share@20, validation", [v.revenue_share for v in validations], best),
    )
    return draw_panels(title, [line.requests for line in validations], panels)


def draw_panels(title: str, seen: Sequence[int], panels: Sequence[Panel]) -> bytes:
    """Quantities of a run over the training requests seen, as a PNG.

    Args:
        title: stands above the picture.
        seen: training requests until each value, at least one.
        panels: two or three, side by side.
    """
    style: dict[Any, Any] = {
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _RULE,
    }
    with mpl.rc_context({**style, "xtick.color": _MUTED, "ytick.color": _MUTED}):
        figure = Figure(figsize=(3.5 * len(panels), 3.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        places = figure.subplots(1, len(panels))
        for axes, colour, panel in zip(places, _COLOURS, panels, strict=False):
            _draw(axes, panel, seen, colour)
            if panel.kept is not None:
                _mark(axes, seen[panel.kept], panel.values[panel.kept], colour)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, panel: Panel, seen: Sequence[int], colour: str) -> None:
    few = len(seen) <= _MARKERS
    axes.plot(
        seen, panel.values, color=colour, linewidth=2 if few else 1.2,
        marker="o" if few else "", markersize=4,
    )  # fmt: skip
    axes.set_title(panel.name, loc="left", fontsize=10, color=_INK)
    axes.set_xlabel("training requests seen")
    axes.set_xlim(0, 1.1 * seen[-1])
    axes.margins(y=0.25)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _mark(axes: Axes, seen: int, value: float, colour: str) -> None:
    """Ring the validation whose weights are kept."""
    axes.plot(
        [seen], [value], marker="o", markersize=11, markerfacecolor="none", markeredgecolor=colour
    )
    axes.annotate(
        f"{value:.3f} kept", (seen, value), xytext=(0, 11), textcoords="offset points", ha="center",
        color=colour,
    )  # fmt: skip
