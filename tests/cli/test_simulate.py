"""Simulated experiments: the truth is exact, and the platform's decisions are held against it."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from abtest.split.config import parse_config
from abtest.split.splitter import Splitter
from cli import main
from cli.simulation.experiment import Decided
from cli.simulation.horizon import days_needed, planned_units, power
from cli.simulation.log import opened, store
from cli.simulation.outcome import false_ships, is_right, outcome, rate
from cli.simulation.policies import LENGTH, Arms, Policies, SimulationError, moments
from cli.simulation.run import Simulation, simulate
from cli.simulation.traffic import day_of_traffic
from training.synthetic.response import Lists, respond
from training.synthetic.tables import LIVE_US
from training.synthetic.visits import draw_visits
from training.synthetic.world import World, make_world

CONFIG = """
version = 1
[defaults]
policy = "control"
[[layers]]
name = "simulated"
seed = "s"
[[layers.experiments]]
key = "x"
revision = 1
state = "running"
control = "control"
variants = [
    { name = "control", weight = 0.5, params = { policy = "control" } },
    { name = "treatment", weight = 0.5, params = { policy = "treatment" } },
]
"""


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(400, 120, 0)


@pytest.fixture(scope="module")
def policies(world: World) -> Policies:
    return Policies(world, 0)


def _revenue(world: World, arms: Arms, share: float, days: float, runs: int) -> list[float]:
    """Revenue of users who came, drawn visit by visit."""
    random = np.random.default_rng(0)
    revenue: list[float] = []
    for _ in range(runs):
        visits = draw_visits(world, LIVE_US, days, random)
        other = random.random(len(visits.users_V)) < share
        items = np.where(
            other[:, None],
            arms.other.lists_UP[visits.users_V],
            arms.control.lists_UP[visits.users_V],
        )
        bought = respond(world, Lists(visits.users_V, visits.devices_V, items), random).bought_BP
        money = (bought * world.price_micros_I[items] / 1e6).sum(axis=1)
        by_user = np.bincount(visits.users_V, money, world.users)
        revenue += by_user[np.bincount(visits.users_V, minlength=world.users) > 0].tolist()
    return revenue


@pytest.mark.parametrize("lift", [0.0, 0.2, -0.2])
def test_moments_and_lift_equal_monte_carlo(world: World, policies: Policies, lift: float) -> None:
    arms = policies.arms(lift)
    control, treated = (moments(world, arms, share, 5) for share in (0.0, arms.share))
    assert treated.mean / control.mean - 1 == pytest.approx(lift, abs=1e-12)
    found = np.array(_revenue(world, arms, arms.share, 5, runs=150))
    assert abs(found.mean() - treated.mean) < 3.5 * found.std() / len(found) ** 0.5
    squares = (found - treated.mean) ** 2
    assert abs(squares.mean() - treated.variance) < 3.5 * squares.std() / len(found) ** 0.5
    assert len(found) / 150 / world.users == pytest.approx(treated.exposed, abs=0.01)


def test_a_lift_that_no_lists_have_is_refused(policies: Policies) -> None:
    with pytest.raises(SimulationError, match=r"lift = 5 must be in \[-0\.\d+, \d\.\d+\] in this"):
        policies.arms(5.0)


def test_the_oracle_needs_fewer_days_for_more_lift(world: World, policies: Policies) -> None:
    small, large, none = (policies.arms(lift) for lift in (0.3, 0.45, 0.0))
    days = [days_needed(world, arms, 200) for arms in (small, large)]
    assert days[0] is not None
    assert days[1] is not None
    assert days[1] < days[0]
    assert power(world, large, days[1]) >= 0.8 > power(world, large, days[1] - 1)
    assert days_needed(world, none, 200) is None
    assert planned_units(world, none, 14) < world.users


def test_traffic_is_split_logged_and_archived_whole(
    world: World, policies: Policies, tmp_path: Path
) -> None:
    arms = policies.arms(0.3)
    splitter = Splitter(parse_config(CONFIG))
    random = np.random.default_rng(0)
    day = day_of_traffic(world, arms, splitter, "d", LIVE_US, random)
    assert all(len(answer.item_ids) == LENGTH for answer in day.answers)

    async def log(socket: Path) -> int:
        async with opened(socket, tmp_path / "log") as kept:
            await kept.append(day.answers, day.reports)
            with pytest.raises(SimulationError, match="an event's id was taken before"):
                await kept.append(day.answers, day.reports)
            return await kept.archive()

    with store() as socket:
        assert asyncio.run(log(socket)) == len(day.answers) + len(day.reports)


def test_right_is_what_keeps_the_better_arm() -> None:
    cases = [(0.1, "ship"), (0.1, "hold"), (0.0, "ship"), (0.0, "wait"), (-0.1, "stop")]
    decided = [Decided(n, lift, call, 7 + n, 100, lift, n != 1) for n, (lift, call) in
               enumerate(cases)]  # fmt: skip
    assert [is_right(one) for one in decided] == [True, False, False, True, True]
    assert false_ships(decided)[:2] == (1, 3)
    found = outcome(decided, 0.1, 0.8, 9)
    assert found.calls == {"ship": 1, "hold": 1, "stop": 0, "wait": 0, "blocked": 0}
    assert (found.right[:2], found.covered[:2], found.median_day) == ((1, 2), (1, 2), 7.5)
    # Wilson: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = 1/2, n = 2.
    z = 1.959963984540054
    half = z * (0.25 / 2 + z**2 / 16) ** 0.5 / (1 + z**2 / 2)
    assert found.right.low == pytest.approx(0.5 - half, abs=1e-9)
    assert str(rate(1, 2)) == "50 % (9 to 91)"
    assert str(rate(0, 0)) == "-"


def test_decisions_follow_the_truth() -> None:
    """Reduced: three A/A experiments and three with a large gain."""
    decided, outcomes = simulate(Simulation(6, (0.0, 0.5), 400, 200, 9, 1))
    none, gain = outcomes
    assert none.calls["ship"] == 0
    assert gain.calls["ship"] >= 2
    assert gain.power > 0.75
    assert {one.calls["blocked"] for one in outcomes} == {0}
    assert all(one.day >= 7 for one in decided if one.call == "ship")
    assert false_ships(decided).cases == 0


def test_more_lifts_than_experiments_are_refused() -> None:
    with pytest.raises(SimulationError, match=r"experiments = 1 must be at least 2, one for each"):
        simulate(Simulation(1, (0.0, 0.1), 100, 60, 7, 0))


def test_the_command_prints_a_table_and_json() -> None:
    words = ["simulate", "--experiments", "1", "--lift", "0", "--users", "60", "--items", "60",
             "--days", "7"]  # fmt: skip
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0, shown.output
    assert "right decisions: 100 %" in shown.stdout
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert found["simulation"]["users"] == 60
    assert len(found["experiments"]) == 1
    assert found["false_ships"]["of"] == 1
