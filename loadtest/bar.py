"""Bar: how far a test is, on standard error."""

from types import TracebackType

import gevent
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest.conductor import Watch
from loadtest.result import StepResult, measured
from loadtest.step import Step
from loadtest.wording import load, ms, percent, study

TICK_S = 1.0
"""The bar is drawn no more often, because drawing makes the generator late."""


class Bar:
    """Progress on standard error: a bar of the whole test, a line for every step that ended."""

    def __init__(self, total_s: float) -> None:
        """Prepare a bar for a test of at most `total_s`."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
        self._task = self._progress.add_task("load test", total=total_s)
        self._clock: gevent.Greenlet | None = None
        self.watch = Watch(self._began, self._ended)

    def __enter__(self) -> "Bar":
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the bar unless something went wrong."""
        self._stop_clock()
        if error is None:
            total_s = self._progress.tasks[0].total
            self._progress.update(self._task, description="done", completed=total_s)
        self._progress.stop()

    def _began(self, step: Step) -> None:
        self._progress.update(self._task, description=f"{step.study} {step.phases[0].name}")
        self._clock = gevent.spawn(self._tick, step.duration_s, self._progress.tasks[0].completed)

    def _tick(self, duration_s: float, before_s: float) -> None:
        elapsed_s = 0.0
        while elapsed_s < duration_s:
            self._progress.update(self._task, completed=before_s + elapsed_s)
            self._progress.refresh()
            pause_s = min(TICK_S, duration_s - elapsed_s)
            gevent.sleep(pause_s)
            elapsed_s += pause_s
        self._progress.update(self._task, completed=before_s + duration_s)

    def _ended(self, result: StepResult) -> None:
        if self._clock is not None:
            self._clock.join()
        for one in measured([result]):
            tally = one.recommend
            latency = " ".join(
                f"{ms(tally.latency.percentile_ms(p)):>6}" for p in (0.5, 0.95, 0.99)
            )
            line = (
                f"{study(one):<14} {load(one):>10}  p50 p95 p99 {latency} ms  "
                f"in time {percent(tally.in_time_share)}"
            )
            slow = "  (generator late)" if one.generator_bound else ""
            self._progress.console.print(line + slow, highlight=False, markup=False)
        self._progress.refresh()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.kill()
