"""Run: many simulated experiments, one after the other."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cli.simulation.experiment import Course, Decided, experiment
from cli.simulation.horizon import days_needed, planned_units, power
from cli.simulation.log import store
from cli.simulation.outcome import Outcome, outcome
from cli.simulation.policies import Policies, SimulationError
from training.synthetic.world import make_world

_ORACLE_TIMES = 10


class Simulation(NamedTuple):
    """What is simulated."""

    experiments: int
    """Of all lifts together, dealt to them in turn."""
    lifts: tuple[float, ...]
    users: int
    items: int
    days: int
    seed: int


def simulate(
    simulation: Simulation, tick: Callable[[str, int], None] = lambda *_: None
) -> tuple[list[Decided], list[Outcome]]:
    """Run experiments of known lifts and say what the platform decided.

    Args:
        simulation: what is simulated.
        tick: told what goes on, and how many experiments ended.

    Raises:
        SimulationError: a lift cannot be had in this world, or there are fewer experiments than
            lifts.
        WorldError: a size is out of its range.
    """
    lifts = tuple(dict.fromkeys(simulation.lifts))
    if simulation.experiments < len(lifts):
        raise SimulationError(
            f"experiments = {simulation.experiments} must be at least {len(lifts)}, one for each "
            "lift"
        )
    world = make_world(simulation.users, simulation.items, simulation.seed)
    tick("making the lists", 0)
    policies = Policies(world, simulation.seed)
    arms = [policies.arms(lift) for lift in lifts]
    planned = planned_units(world, arms[0], simulation.days)
    course = Course(world, simulation.days, simulation.seed, planned)
    decided = []
    with store() as socket, tempfile.TemporaryDirectory(prefix="cascade-simulate-") as folder:
        for number in range(simulation.experiments):
            mine = arms[number % len(arms)]
            tick(f"experiment {number + 1}, lift {100 * mine.lift:+.1f} %", 0)
            one = experiment(course, mine, number, socket, Path(folder) / "log")
            decided.append(asyncio.run(one))
            tick(f"experiment {number + 1}: {decided[-1].call}", 1)
    outcomes = [
        outcome(
            decided,
            of.lift,
            power(world, of, simulation.days),
            days_needed(world, of, _ORACLE_TIMES * simulation.days),
        )
        for of in arms
    ]
    return decided, outcomes
