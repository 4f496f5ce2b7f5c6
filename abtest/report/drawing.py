"""Drawing: an SVG that takes its colours from the page around it.

It is drawn with placeholder colours, which are then replaced by CSS variables, so that one picture
serves light and dark. Text stays text: it can be selected, searched and read aloud.
"""

import re
from collections.abc import Callable
from html import escape
from io import StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, RULE = "#010203", "#020304"
ARMS = ("#030401", "#030402", "#030403", "#030404", "#030405", "#030406")
_VARIABLES = {INK: "var(--ink)", RULE: "var(--rule)"} | {
    placeholder: f"var(--arm-{number})" for number, placeholder in enumerate(ARMS)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "date.converter": "concise",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
WIDTH, HEIGHT = 6.2, 3.1
"""Of a chart, in inches."""


class Chart(NamedTuple):
    """A drawn chart and its words."""

    title: str
    caption: str
    svg: str
    wide: bool
    """It takes the whole width of its page."""


def draw(
    title: str,
    caption: str,
    plot: Callable[[list[Axes]], None],
    *,
    panels: tuple[int, int] = (1, 1),
    width: float = WIDTH,
    height: float = HEIGHT,
) -> Chart:
    """Draw a chart.

    Args:
        title: of the chart, unique on its page.
        caption: what it shows, in words.
        plot: draws into the panels, given row by row.
        panels: rows and columns; rows share their x axis.
        width: in inches.
        height: in inches.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        rows, columns = panels
        shared = figure.subplots(rows, columns, sharex="col", squeeze=False)
        axes: list[Axes] = list(shared.flat)
        for each in axes:
            each.patch.set_alpha(0)
        plot(axes)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Chart(title, caption, _inline(buffer.getvalue(), title, caption), width > WIDTH)


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
