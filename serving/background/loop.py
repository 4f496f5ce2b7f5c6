"""Loop: runs the steps that are due, one after another, until it is told to stop."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event

from serving.background.outcome import Outcome
from serving.background.steps import Place, Step

logger = logging.getLogger(__name__)


def run_steps(
    steps: Sequence[Step],
    place: Place,
    tell: Callable[[Outcome], None],
    stopping: Event,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run every step at its interval, for the first time one interval after the call.

    Args:
        steps: in the order in which they run when they are due together.
        place: that they work on.
        tell: told of every run.
        stopping: ends the loop after the step that is running.
        clock: seconds, from any beginning.
    """
    due_s = [clock() + step.interval_s for step in steps]
    failing: set[str] = set()
    while not stopping.wait(max(0.0, min(due_s) - clock())):
        now_s = clock()
        for number, step in enumerate(steps):
            if due_s[number] <= now_s and not stopping.is_set():
                tell(_run(step, place, clock, failing))
                due_s[number] = clock() + step.interval_s


def _run(step: Step, place: Place, clock: Callable[[], float], failing: set[str]) -> Outcome:
    started_s = clock()
    try:
        counts = dict(step.run(place))
    except Exception as error:  # the loop must go on: the step is tried again
        if step.name not in failing:  # else it was said when it began to fail
            logger.exception("step %s failed; next try in %g s", step.name, step.interval_s)
        failing.add(step.name)
        return Outcome(step.name, clock() - started_s, {}, f"{type(error).__name__}: {error}")
    if step.name in failing:
        failing.remove(step.name)
        logger.warning("step %s works again", step.name)
    return Outcome(step.name, clock() - started_s, counts)
