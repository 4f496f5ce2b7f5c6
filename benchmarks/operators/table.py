"""Tables of results, for a terminal and for a page."""

from typing import NamedTuple

from rich import box
from rich.table import Table as TerminalTable

from benchmarks.operators.timing import Times, spread

LEFT_OUT = "-"


class Table(NamedTuple):
    """Rows in named blocks, such as one for each shape."""

    title: str
    note: str
    columns: list[str]
    blocks: dict[str, list[list[str]]]
    """Cells of the rows below each block's name; the first cell is left-aligned."""


def microseconds(value: float) -> str:
    """Three digits or more, no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def quartiles(times: Times) -> str:
    """The lower and the upper."""
    low, _, high = spread(times)
    return f"{microseconds(low)} to {microseconds(high)}"


def for_terminal(table: Table) -> TerminalTable:
    """With a line between blocks, and their names in a column of their own."""
    named = any(table.blocks)
    drawn = TerminalTable(
        title=table.title, caption=table.note, box=box.SIMPLE_HEAD, pad_edge=False
    )
    if named:
        drawn.add_column("B x N", no_wrap=True)
    for index, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
    for name, rows in table.blocks.items():
        for index, row in enumerate(rows):
            drawn.add_row(*([name if index == 0 else ""] if named else []), *row)
        drawn.add_section()
    return drawn


def for_page(table: Table) -> str:
    """Markdown: a heading, the note, and one table with a block's name in its first row."""
    named = any(table.blocks)
    columns = ["B x N"] * named + table.columns
    lines = [f"## {table.title}", "", table.note, "", _line(columns)]
    lines.append(_line(["---"] * (1 + named) + ["---:"] * (len(table.columns) - 1)))
    for name, rows in table.blocks.items():
        for index, row in enumerate(rows):
            lines.append(_line([f"**{name}**" if index == 0 else ""] * named + row))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
