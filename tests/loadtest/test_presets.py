"""Plans against a server of known capacity."""

import pytest

from cli.loadtest import PRESETS
from loadtest.presets import (
    BISECTIONS,
    DEFAULT_STEP_S,
    KNEE_SHARES,
    Preset,
    Scale,
    longest_s,
    plan_of,
)
from loadtest.result import capacity_per_s, find_knee
from loadtest.step import LoadError, Loop
from tests.loadtest.results import carried_out, driven


def test_the_command_line_knows_every_preset() -> None:
    assert tuple(Preset) == PRESETS
    assert set(DEFAULT_STEP_S) == set(Preset)


@pytest.mark.parametrize("rate_per_s", [None, 80.0])
@pytest.mark.parametrize("preset", Preset)
def test_no_plan_takes_longer_than_it_says(preset: Preset, rate_per_s: float | None) -> None:
    scale = Scale(step_s=2.0, rate_per_s=rate_per_s)
    results = driven(plan_of(preset, scale), 300.0)
    taken_s = sum(result.step.duration_s for result in results)
    assert 0.5 * longest_s(preset, scale) <= taken_s <= longest_s(preset, scale)


@pytest.mark.parametrize("capacity", [40.0, 300.0, 2000.0])
def test_the_knee_is_found(capacity: float) -> None:
    results = driven(plan_of(Preset.KNEE, Scale(5.0)), capacity)
    assert results[0].step.loop is Loop.CLOSED
    assert capacity_per_s(results) == pytest.approx(capacity, rel=0.01)
    knee = find_knee(results)
    assert knee.carried is not None
    assert knee.missed is not None
    # It answers in time below 0.9 of the capacity; the climb brackets that, halving narrows it.
    assert knee.carried < 0.9 * capacity <= knee.missed * 1.001
    assert knee.missed - knee.carried <= 0.1 * capacity / 2**BISECTIONS * 1.01
    assert len(results) == 1 + len(KNEE_SHARES) + BISECTIONS


def test_a_server_beyond_every_rate_has_no_knee_and_a_hopeless_one_none_either() -> None:
    plan = plan_of(Preset.KNEE, Scale(5.0, rate_per_s=10.0))
    assert find_knee(driven(plan, 1000.0)) == (14.0, None)
    plan = plan_of(Preset.KNEE, Scale(5.0, rate_per_s=1000.0))
    assert find_knee(driven(plan, 10.0)) == (None, 200.0)


def test_rates_follow_the_capacity_or_what_was_asked_for() -> None:
    capacity, spike = driven(plan_of(Preset.SPIKE, Scale(4.0, users=3)), 100.0)
    assert capacity.step.phases[0].start == 3
    assert [phase.start for phase in spike.step.phases] == pytest.approx([30, 150, 30], rel=0.01)
    assert [phase.duration_s for phase in spike.step.phases] == [4.0, 2.0, 6.0]
    (spike,) = driven(plan_of(Preset.SPIKE, Scale(4.0, 20.0)), 100.0)
    assert [phase.start for phase in spike.step.phases] == [20, 100, 20]
    (ramp,) = driven(plan_of(Preset.RAMP, Scale(4.0, 50.0)), 100.0)
    assert (ramp.step.phases[0].start, ramp.step.phases[0].end) == (5, 50)
    _, soak = driven(plan_of(Preset.SOAK, Scale(4.0)), 100.0)
    assert soak.step.phases[0].start == pytest.approx(50, rel=0.01)
    _, smoke = driven(plan_of(Preset.SMOKE, Scale(4.0)), 100.0)
    assert smoke.step.phases[0].start == 50


def test_all_is_all() -> None:
    results = driven(plan_of(Preset.ALL, Scale(5.0)), 200.0)
    studies = list(dict.fromkeys(result.step.study for result in results))
    assert studies == ["capacity", "smoke", "knee", "spike", "ramp", "soak"]
    assert longest_s(Preset.ALL, Scale(DEFAULT_STEP_S[Preset.ALL])) < 120


def test_without_one_good_answer_there_is_nothing_to_scale_by() -> None:
    plan = plan_of(Preset.KNEE, Scale(5.0))
    with pytest.raises(LoadError, match=r"none of 0 recommendations was answered well in 5 s"):
        plan.send(carried_out(next(plan), 0.0))
