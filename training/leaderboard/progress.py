"""Progress of a leaderboard: one bar over its trials, and the list of them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from training.leaderboard.schedule import Entry, seconds_left

_MINUTE, _HOUR = 60, 3600


class Watch(NamedTuple):
    """What to call while trials run."""

    begin: Callable[[Sequence[Entry], Entry], None]
    advance: Callable[[int, int], None]


@contextmanager
def trials_bar() -> Iterator[Watch]:
    """A bar over all trials that moves within a trial too; names it, and the best so far."""
    columns = (
        BarColumn(bar_width=16),
        TextColumn("{task.fields[done]}"),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[left]}", style="dim"),
        TextColumn("{task.fields[best]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("", total=None, done="", left="", best="")
        done = 0

        def begin(entries: Sequence[Entry], entry: Entry) -> None:
            nonlocal done
            done = sum(entry.result is not None for entry in entries)
            bars.update(
                task, completed=done, total=len(entries), description=entry.label,
                done=f"{done}/{len(entries)}", left=remaining(entries), best=best_so_far(entries),
            )  # fmt: skip

        def advance(step: int, steps: int) -> None:
            bars.update(task, completed=done + step / steps)

        yield Watch(begin, advance)


def best_so_far(entries: Sequence[Entry]) -> str:
    """The best trial of the latest phase that has one."""
    for phase in ("final", "sweep"):
        results = [
            (entry.result.score, entry.method)
            for entry in entries
            if entry.phase == phase and entry.result is not None and entry.result.failed is None
        ]
        if results:
            score, method = max(results)
            return f"best {phase} {score:.4f} {method}"
    return ""


def remaining(entries: Sequence[Entry]) -> str:
    """About how long the open trials take."""
    seconds = seconds_left(entries)
    if seconds is None:
        return "time left unknown"
    if seconds >= _HOUR:
        return f"about {seconds / _HOUR:.1f} h left"
    if seconds >= _MINUTE:
        return f"about {seconds / _MINUTE:.0f} min left"
    return f"about {seconds:.0f} s left"


def render_plan(entries: Sequence[Entry]) -> str:
    """All trials with their state, one a line, and an estimate of the time."""
    lines = []
    for entry in entries:
        state = "open" if entry.result is None else f"{entry.result.score:.4f}"
        if entry.result is not None and entry.result.failed is not None:
            state = "failed"
        lines.append(f"{state:>8}  {entry.label}")
    counts = Counter(entry.phase for entry in entries)
    phases = ", ".join(f"{count} {phase}" for phase, count in counts.items())
    done = sum(entry.result is not None for entry in entries)
    time = remaining(entries) if done < len(entries) else "nothing left to run"
    if done == 0:
        time = "no trial is finished yet to estimate the time from"
    return "\n".join([*lines, f"{len(entries)} trials ({phases}), {done} done; {time}"])
