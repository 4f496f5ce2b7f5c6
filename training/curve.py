"""Learning curve: a run's validations as a picture."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from training.checkpoint import Validation, best_of

_INK, _RULE, _MUTED = "#24292f", "#d8dee4", "#6e7781"
_COLOURS = ("#0b6e99", "#c4622d", "#3a7d44")


def draw_curve(title: str, validations: Sequence[Validation]) -> bytes:
    """Loss, recall@20 and revenue@20 over the requests seen, as a PNG.

    Args:
        title: stands above the picture.
        validations: at least one.
    """
    style: dict[Any, Any] = {
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _RULE,
    }
    with mpl.rc_context({**style, "xtick.color": _MUTED, "ytick.color": _MUTED}):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        panels = figure.subplots(1, 3)
        best = best_of(tuple(validations))
        series = (
            ("training loss", [line.loss for line in validations], None),
            ("recall@20, validation", [line.recall for line in validations], best.recall),
            ("revenue share@20, validation", [v.revenue_share for v in validations],
             best.revenue_share),
        )  # fmt: skip
        seen = [line.requests for line in validations]
        for axes, colour, (name, values, kept) in zip(panels, _COLOURS, series, strict=True):
            _panel(axes, name, seen, values, colour)
            if kept is not None:
                _mark(axes, best.requests, kept, colour)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Axes, name: str, seen: list[int], values: list[float], colour: str) -> None:
    axes.plot(seen, values, color=colour, linewidth=2, marker="o", markersize=4)
    axes.set_title(name, loc="left", fontsize=10, color=_INK)
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
