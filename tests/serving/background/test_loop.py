"""Steps run when they are due, in order, whatever becomes of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import cast

import pytest
import redis

from serving.background.loop import run_steps
from serving.background.outcome import Outcome, OutcomeError, parse_outcome
from serving.background.steps import Place, Step, steps
from serving.settings import Settings


class Clock:
    """Moves on by a second whenever somebody waits."""

    def __init__(self, ends_s: float) -> None:
        self.now_s = 0.0
        self._ends_s = ends_s

    def __call__(self) -> float:
        return self.now_s

    def wait(self, timeout: float) -> bool:
        self.now_s += timeout
        return self.now_s > self._ends_s

    def is_set(self) -> bool:
        return self.now_s > self._ends_s


def run_for(seconds: float, *some: Step) -> list[tuple[float, Outcome]]:
    told: list[tuple[float, Outcome]] = []
    clock = Clock(seconds)
    place = Place(Settings(), cast("redis.Redis", None))
    run_steps(some, place, lambda o: told.append((clock.now_s, o)), cast("Event", clock), clock)
    return told


def doing(call: Callable[[], int]) -> Callable[[Place], Mapping[str, int]]:
    return lambda _: {"done": call()}


def test_steps_run_at_their_intervals_and_in_their_order() -> None:
    told = run_for(6.5, Step("slow", 3.0, doing(lambda: 1)), Step("quick", 1.5, doing(lambda: 2)))
    assert [(at_s, o.step) for at_s, o in told] == [
        (1.5, "quick"),
        (3.0, "slow"),
        (3.0, "quick"),
        (4.5, "quick"),
        (6.0, "slow"),
        (6.0, "quick"),
    ]
    assert told[0][1] == Outcome("quick", 0.0, {"done": 2})


def test_a_step_that_fails_is_told_of_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts: list[int] = []

    def fail() -> int:
        attempts.append(1)
        if len(attempts) <= 2:
            raise ValueError("not today")
        return 7

    told = run_for(3.5, Step("moody", 1.0, doing(fail)), Step("calm", 1.0, doing(lambda: 1)))
    assert [(o.step, o.counts, o.error) for _, o in told] == [
        ("moody", {}, "ValueError: not today"),
        ("calm", {"done": 1}, None),
        ("moody", {}, "ValueError: not today"),
        ("calm", {"done": 1}, None),
        ("moody", {"done": 7}, None),
        ("calm", {"done": 1}, None),
    ]
    assert caplog.text.count("step moody failed; next try in 1 s") == 1
    assert caplog.text.count("step moody works again") == 1


def test_outcomes_come_back_as_they_were_told() -> None:
    outcome = Outcome("archive", 0.25, {"archived_events": 3}, None)
    assert parse_outcome(outcome.to_line()) == outcome


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b'{"step": 1}\n', b'{"x": 2}\n'])
def test_other_lines_are_refused(line: bytes) -> None:
    with pytest.raises(OutcomeError, match=r"of the background process is no outcome of a step;"):
        parse_outcome(line)


def test_the_server_has_these_steps(tmp_path: Path) -> None:
    found = {step.name: step.interval_s for step in steps(Settings(data_dir=tmp_path))}
    assert found["archive"] == 30.0
    assert {"erase", "compact", "retain"} <= set(found)
