"""Terminal: a report as plain text, 100 columns wide."""

from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from abtest.analysis.statistics.effect import Decision
from abtest.report.breakdown import arm_sections, arm_title
from abtest.report.finding import findings, period, ratio_sentence
from abtest.report.model import Report
from abtest.report.table import Table, tables

_COLUMNS = 100


def render_text(report: Report) -> str:
    """Lay the report out for a terminal: decision, checks, effects, variants, notes; no colours."""
    console = Console(width=_COLUMNS, color_system=None, highlight=False)
    with console.capture() as capture:
        for part in _parts(report):
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _parts(report: Report) -> Iterator[RenderableType]:
    about = (
        report.decision.call.upper(),
        report.key,
        f"revision {report.revision}",
        report.state,
        period(report),
    )
    yield Panel(_decision(report.decision), title=" · ".join(about), padding=(1, 2))
    yield _line(ratio_sentence(report))
    for table in tables(report):
        yield _grid(table)
    yield _arms(report)
    for line in (*findings(report), *report.notes):
        yield _line(line)


def _decision(decision: Decision) -> Grid:
    """The call and its headline, and a hanging paragraph for each reason."""
    grid = Grid.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column()
    lines = Grid.grid()
    lines.add_row(Text(decision.headline))
    lines.add_row("")
    for reason in decision.reasons:
        grid.add_row("-", Text(reason))
    lines.add_row(grid)
    return lines


def _line(words: str) -> Padding:
    return Padding(Text(words), (1, 1, 0, 1))


def _grid(table: Table) -> Grid:
    grid = _empty(table.title, table.caption)
    for number, name in enumerate(table.headings):
        grid.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(Text(row.label), *(Text(cell) for cell in row.cells))
    return grid


def _arms(report: Report) -> Grid:
    grid = _empty("Variants")
    grid.add_column("Measure")
    for arm in report.arms:
        grid.add_column(Text(arm_title(arm, report)), justify="right")
    for section in arm_sections(report):
        for row in section.rows:
            grid.add_row(row.label, *row.cells, end_section=row is section.rows[-1])
    return grid


def _empty(title: str, caption: str | None = None) -> Grid:
    return Grid(
        title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, expand=True
    )
