"""Terminal: the results of a test as tables."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.result import StepResult, measured
from loadtest.slo import Check
from loadtest.wording import (
    CHECK_COLUMNS,
    COLUMNS,
    Sentence,
    check_row,
    row,
)


def print_results(
    console: Console,
    results: Sequence[StepResult],
    checks: Sequence[Check],
    said: Sequence[Sentence],
) -> None:
    """Print what was measured, what it means, and which objectives were met."""
    console.print(_table(COLUMNS, [row(one) for one in measured(results)], words=2))
    for sentence in said:
        console.print(Text(sentence.text, style="yellow" if sentence.bad else ""))
    if checks:
        rows = [check_row(check) for check in checks]
        console.print(_table(CHECK_COLUMNS, rows, words=2))
        missed = sum(not check.met for check in checks)
        text = f"{missed} of {len(checks)} limits missed" if missed else f"all {len(checks)} met"
        console.print(Text(f"Objectives: {text}.", style="bold red" if missed else "bold green"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> Table:
    """A table whose first columns are words, to the left, and whose others are numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < words else "right", no_wrap=True)
    for cells in rows:
        missed = cells[-1] == "MISSED"
        table.add_row(*(Text(cell) for cell in cells), style="red" if missed else None)
    return table
