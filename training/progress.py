"""Progress bars of training and evaluation, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from training.trainer import Progress


@contextmanager
def training_bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """A bar of steps with loss, recall and speed; the block gets what to call after each step."""
    with _bars(TextColumn("{task.fields[state]}")) as bars:
        task = bars.add_task(name, total=None, state="")
        started = time.perf_counter()
        seen = 0

        def show(progress: Progress) -> None:
            nonlocal seen
            seen += progress.requests
            speed = seen / (time.perf_counter() - started)
            recall = "" if progress.recall is None else f"  recall@20 {progress.recall:.3f}"
            state = f"loss {progress.loss:.3f}{recall}  {speed:,.0f} requests/s"
            bars.update(task, completed=progress.step, total=progress.steps, state=state)

        yield show


@contextmanager
def evaluation_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a policy; the block gets what to call with a name, how many are done, of how many."""
    with _bars() as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show


def _bars(*more: TextColumn) -> Bars:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return Bars(*columns, *more, TimeRemainingColumn(), console=Console(stderr=True))
