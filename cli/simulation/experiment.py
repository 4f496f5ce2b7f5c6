"""Experiment: from a known truth to what the platform decides, looking every day."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from abtest.analysis.metrics_file import load_metrics
from abtest.report.decision import WAIT
from abtest.report.making import Archive, make
from abtest.report.trial import trial
from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.splitter import Splitter
from cli.simulation.log import opened
from cli.simulation.policies import Arms
from cli.simulation.traffic import CONTROL, TREATMENT, day_of_traffic
from training.features import US_PER_DAY
from training.synthetic.tables import LIVE_US
from training.synthetic.world import World


class Decided(NamedTuple):
    """How a simulated experiment ended."""

    number: int
    lift: float
    """The truth, as a share of the control's revenue a user."""
    call: str
    """`wait` where nothing was decided in the days there were."""
    day: int
    """On the evening of which it was decided, or the last."""
    units: int
    estimate: float | None
    """Lift that the report told."""
    covered: bool | None
    """Whether its fixed-horizon interval holds the truth; None where it told none."""


class Course(NamedTuple):
    """What is the same for all simulated experiments."""

    world: World
    days: int
    """At most."""
    seed: int
    planned_units: int


async def experiment(
    course: Course,
    arms: Arms,
    number: int,
    socket: Path,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> Decided:
    """Run an experiment until the report's decision is no longer to wait.

    Args:
        course: world and length.
        arms: what the variants show.
        number: of the experiment; it decides the split, and with the seed who does what.
        socket: of the store.
        folder: for its log, emptied first.
        tick: called after each day.
    """
    config = _config(course, number)
    splitter, found = Splitter(config), trial(config, _key(number))
    random = np.random.default_rng((course.seed, number))
    metrics = load_metrics()
    async with opened(socket, folder) as log:
        archive = Archive(log.events_dir, folder / "rollups", metrics, None)
        for day in range(1, course.days + 1):
            start_us = LIVE_US + (day - 1) * US_PER_DAY
            name = f"s{number}-{day}"
            traffic = day_of_traffic(course.world, arms, splitter, name, start_us, random)
            await log.append(traffic.answers, traffic.reports)
            await log.archive()
            report = make(archive, found, as_of=_moment(start_us + US_PER_DAY))
            tick()
            if report.decision.call != WAIT:
                break
    effect = report.primary[0] if report.primary else None
    truth = arms.lift
    interval = None if effect is None else effect.relative_interval
    return Decided(
        number=number,
        lift=truth,
        call=report.decision.call,
        day=day,
        units=report.units,
        estimate=None if effect is None else effect.relative,
        covered=None if interval is None else interval.low <= truth <= interval.high,
    )


def _key(number: int) -> str:
    return f"simulated-{number}"


def _config(course: Course, number: int) -> ExperimentConfig:
    return parse_config(f"""
        version = 1
        [defaults]
        policy = "{CONTROL}"
        [[layers]]
        name = "simulated"
        seed = "simulated-{course.seed}-{number}"
        [[layers.experiments]]
        key = "{_key(number)}"
        revision = 1
        state = "running"
        control = "{CONTROL}"
        planned_units = {course.planned_units}
        variants = [
            {{ name = "{CONTROL}", weight = 0.5, params = {{ policy = "{CONTROL}" }} }},
            {{ name = "{TREATMENT}", weight = 0.5, params = {{ policy = "{TREATMENT}" }} }},
        ]
    """)


def _moment(ts_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)
