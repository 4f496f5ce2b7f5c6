"""Terminal: a report as plain text, 100 columns wide."""

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from abtest.report.report import Report
from abtest.report.table import (
    LIFT_COLUMNS,
    arm_sections,
    arm_title,
    lift_rows,
    period,
    ratio_sentence,
)

_COLUMNS = 100


def render(report: Report) -> str:
    """Lay the report out: verdict, lift, arms, checks, notes."""
    console = Console(width=_COLUMNS, color_system=None, highlight=False)
    title = f"{report.key} · revision {report.revision} · {period(report)}"
    with console.capture() as capture:
        console.print(Panel(Text(report.verdict), title=title, padding=(1, 2)))
        if report.lifts:
            console.print(_lift_table(report))
        console.print(_arm_table(report))
        for line in (ratio_sentence(report), *report.notes):
            console.print(Padding(Text(line), (1, 1, 0, 1)))
    return capture.get()


def _lift_table(report: Report) -> Table:
    table = Table(title=f"Lift against {report.control}", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Variant")
    for name in LIFT_COLUMNS:
        table.add_column(name, justify="right")
    for row in lift_rows(report.lifts, report.currency):
        table.add_row(row.label, *row.cells)
    return table


def _arm_table(report: Report) -> Table:
    table = Table(title="Variants", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Measure")
    for arm in report.arms:
        table.add_column(arm_title(arm, report), justify="right")
    for section in arm_sections(report):
        for row in section.rows:
            table.add_row(row.label, *row.cells, end_section=row is section.rows[-1])
    return table
