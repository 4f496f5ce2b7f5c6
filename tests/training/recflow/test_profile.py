"""Profile: every second belongs to one phase."""

from itertools import count

import pytest
from torch import nn

from training.recflow.profile import PhaseTime, Profile, timed


def ticking() -> Profile:
    """The clock says 0, 1, 2, ..."""
    ticks = count()
    return Profile(clock=lambda: float(next(ticks)))


def test_time_belongs_to_the_innermost_phase() -> None:
    profile = ticking()
    for _ in range(2):
        with profile.phase("outer"), profile.phase("inner"):
            pass
    # Entered at 0 and 1, left at 2 and 3: one second before, inside and after.
    assert profile.phases() == (PhaseTime("outer", 4.0, 2), PhaseTime("inner", 2.0, 2))


def test_calls_of_a_module_are_watched() -> None:
    profile = ticking()
    module = nn.Identity()
    profile.watch("stage", module)
    with profile.phase("forward"):
        module(1)
    assert profile.phases() == (PhaseTime("forward", 2.0, 1), PhaseTime("stage", 1.0, 1))


def test_a_phase_ends_where_its_block_fails() -> None:
    profile = ticking()
    with pytest.raises(KeyError), profile.phase("outer"), profile.phase("inner"):
        raise KeyError
    assert profile.phases() == (PhaseTime("outer", 2.0, 1), PhaseTime("inner", 1.0, 1))


def test_what_was_begun_is_waited_for_at_both_ends() -> None:
    waits: list[str] = []
    profile = Profile(settle=lambda: waits.append("wait"))
    with profile.phase("a"):
        waits.append("work")
    assert waits == ["wait", "work", "wait"]


def test_table() -> None:
    profile = ticking()
    with profile.phase("loader"):
        pass
    with profile.phase("backward"), profile.phase("optimizer"):
        pass
    profile.step(6)
    profile.step(2)
    assert profile.render().splitlines() == [
        "phase      ms/step  share",
        "loader      500.00  25.0%",
        "backward   1000.00  50.0%",
        "optimizer   500.00  25.0%",
        "all        2000.00",
        "2 steps, 8 requests, 2 requests/s",
    ]


def test_nothing_is_measured_where_nobody_asks() -> None:
    with timed(None, "loader") as nothing:
        assert nothing is None
    assert "0 steps, 0 requests, 0 requests/s" in Profile().render()
