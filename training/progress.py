"""Progress bars of training and evaluation, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from training.recflow.trainer import LogProgress
from training.trainer import Progress

Step = TypeVar("Step", Progress, LogProgress)


@contextmanager
def training_bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """A bar of steps with loss, recall and speed; the block gets what to call after each step."""

    def measured(progress: Progress) -> str:
        return "" if progress.recall is None else f"  recall@20 {progress.recall:.3f}"

    with _steps(name, measured) as show:
        yield show


@contextmanager
def log_training_bar(name: str) -> Iterator[Callable[[LogProgress], None]]:
    """The same for a cascade that is trained on a log, with the day it has come to."""

    def measured(progress: LogProgress) -> str:
        recall = "" if progress.recall is None else f"  recall {progress.recall:.3f}"
        return f"{recall}  {progress.day}"

    with _steps(name, measured) as show:
        yield show


@contextmanager
def _steps(name: str, measured: Callable[[Step], str]) -> Iterator[Callable[[Step], None]]:
    with _bars(TextColumn("{task.fields[state]}")) as bars:
        task = bars.add_task(name, total=None, state="")
        started = time.perf_counter()
        seen = 0

        def show(progress: Step) -> None:
            nonlocal seen
            seen += progress.requests
            speed = seen / (time.perf_counter() - started)
            state = f"loss {progress.loss:.3f}{measured(progress)}  {speed:,.0f} requests/s"
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
