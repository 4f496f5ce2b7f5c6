"""Objectives: what the file may say, and what is met."""

import math
from pathlib import Path

import pytest

from loadtest.answer import Outcome, Route, Verdict
from loadtest.presets import Preset, Scale, plan_of
from loadtest.slo import Objective, check, read_objectives
from loadtest.step import LoadError
from loadtest.tally import Call
from tests.loadtest.results import PER_PHASE, driven


def test_the_file_that_comes_along_is_valid_and_says_something_of_every_kind() -> None:
    objectives = read_objectives(Path("loadtest/slo.toml"))
    assert {limit for objective in objectives for limit in objective.limits} == {
        "p50_ms", "p95_ms", "p99_ms", "failed_share", "shed_share", "degraded_share",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "is no TOML: "),
        (
            "version = 2\n[[objectives]]\nname = 'a'\nshed_share = 0",
            "version = 2: Input should be 1",
        ),
        ("version = 1", "objectives: Field required"),
        ("version = 1\nobjectives = []", "objectives = []: Tuple should have at least 1 item"),
        ("version = 1\n[[objectives]]\nshed_share = 0", "objectives.0.name: Field required"),
        (
            "version = 1\n[[objectives]]\nname = 'a'\nshed_share = 0\np9_ms = 3",
            "objectives.0.p9_ms = 3: Extra inputs are not permitted",
        ),
        (
            "version = 1\n[[objectives]]\nname = 'a'\nshed_share = 5",
            "objectives.0.shed_share = 5: Input should be less than or equal to 1",
        ),
        (
            "version = 1\n[[objectives]]\nname = 'a'\nat_rate_per_s = 5\np50_ms = nan",
            "objectives.0.p50_ms = nan: Input should be ",
        ),
        (
            "version = 1\n[[objectives]]\nname = 'a'\nroute = 'x'\nshed_share = 0",
            "objectives.0.route = 'x': Input should be 'recommend', 'events' or 'interactions'",
        ),
        (
            "version = 1\n[[objectives]]\nname = 'a'\nat_rate_per_s = 5",
            "objectives.0: Value error, 'a' sets no limit; set one of ['p50_ms', ",
        ),
        (
            "version = 1\n[[objectives]]\nname = 'a'\np99_ms = 5",
            "objectives.0: Value error, 'a' limits latency without at_rate_per_s; a latency holds",
        ),
        (
            "version = 1\nx = 1\ny = 2\n[[objectives]]\nname = 'a'\nshed_share = 0",
            "x = 1: Extra inputs are not permitted, and 1 more",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_field_value_and_rule(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(text)
    with pytest.raises(LoadError) as caught:
        read_objectives(path)
    assert str(caught.value).startswith(f"{path}")
    assert message in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no\.toml does not exist; write one as docs/loadtest\.md"):
        read_objectives(tmp_path / "no.toml")


def test_limits_are_measured_at_the_lowest_rate_that_is_high_enough() -> None:
    results = driven(plan_of(Preset.KNEE, Scale(5.0)), 100.0)
    fast, shed = check([Objective(name="a", at_rate_per_s=70, p99_ms=100, shed_share=0)], results)
    assert (fast.where, fast.met, shed.met) == ("80/s", True, True)
    assert 4 < fast.measured < 20
    slow, shed = check([Objective(name="a", at_rate_per_s=120, p50_ms=9, shed_share=0)], results)
    assert (slow.where, slow.met, shed.met) == ("140/s", False, False)
    assert shed.measured == pytest.approx(1 - 100 / 140, abs=0.1)


def test_a_limit_that_is_reached_is_met() -> None:
    results = driven(plan_of(Preset.SOAK, Scale(5.0, 200.0)), 100.0)
    (found,) = check([Objective(name="a", shed_share=1.0)], results)
    exact = Objective(name="a", shed_share=found.measured)
    assert check([exact], results)[0].met
    below = Objective(name="a", shed_share=found.measured - 0.001)
    assert not check([below], results)[0].met


def test_what_was_not_measured_is_not_met() -> None:
    ramp = driven(plan_of(Preset.RAMP, Scale(5.0, 100.0)), 100.0)
    (found,) = check([Objective(name="a", at_rate_per_s=10, p99_ms=1e9)], ramp)
    assert not found.met
    assert math.isnan(found.measured)
    assert found.where == "not measured: no constant rate of 10/s or more was offered"
    (found,) = check([Objective(name="a", route=Route.EVENTS, failed_share=1)], ramp)
    assert not found.met
    assert found.where == "not measured: no events was sent"


def test_the_whole_test_and_other_routes_count() -> None:
    results = driven(plan_of(Preset.SMOKE, Scale(2.0)), 100.0)
    events = results[1].phases[0].routes[Route.EVENTS]
    for outcome in (Outcome.OK, Outcome.FAILED):
        events.add(Call(Route.EVENTS, Verdict(outcome), 10.0, 10.0), 100)
    whole, share = check(
        [
            Objective(name="whole", failed_share=0),
            Objective(name="events", route=Route.EVENTS, at_rate_per_s=50, failed_share=0.4),
        ],
        results,
    )
    assert whole.met
    assert whole.where == "the whole test"
    assert (share.met, share.measured) == (False, 0.5)
    assert results[1].recommend().requests == PER_PHASE


def test_a_late_generator_is_named_beside_the_limit() -> None:
    results = driven(plan_of(Preset.SOAK, Scale(5.0, 50.0)), 100.0)
    results[0].phases[0].lateness.add(80.0)
    (found,) = check([Objective(name="a", at_rate_per_s=50, p99_ms=1)], results)
    assert found.where == "50/s, generator late"
