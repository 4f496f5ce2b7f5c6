"""Archived traffic in which one variant is much slower than the other."""

import random
from pathlib import Path

import redis

from abtest.events import Assignment, Event
from tests.abtest.traffic import DAY_US, START_US, archived, conversion, ranking


def slow_variant(
    client: redis.Redis, folder: Path, *, key: str = "dftopk-vs-baseline", units: int = 300
) -> None:
    """Archive units of both variants; `dftopk` takes twice as long."""
    rng = random.Random(1)
    events: list[Event] = []
    for number in range(units):
        variant = ("baseline", "dftopk")[number % 2]
        given = Assignment(layer="model", key=key, revision=1, variant=variant, propensity=0.5)
        for trip in range(3):
            answer = ranking(
                f"r{number}-{trip}",
                f"u{number}",
                [given],
                ts_us=START_US + rng.randrange(2 * DAY_US),
                total_us=int(rng.lognormvariate(9, 0.2)) * (1 + number % 2),
            )
            events.append(answer)
            if rng.random() < 0.3:
                events.append(conversion(answer, 0, rng.randrange(1, 20) * 10**6))
    archived(client, events, folder)
