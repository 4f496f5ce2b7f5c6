"""Cost: CPU time of a unit's split, here and in GrowthBook's package, in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from growthbook import Experiment as TheirExperiment
from growthbook import GrowthBook

from abtest.split.config import check_config
from abtest.split.splitter import Splitter

CONTEXT = {"country": "DE", "device": "mobile", "store": "367"}
NOW_US = 1_767_268_800 * 10**6

Work = Callable[[Sequence[str]], None]


class Cost(NamedTuple):
    """CPU time of splitting one unit among some experiments, each in a layer of its own."""

    name: str
    experiments: int
    median_us: float
    """Of a unit."""
    lowest_us: float
    highest_us: float

    @property
    def each_us(self) -> float:
        """Of an experiment."""
        return self.median_us / self.experiments


def splitter(experiments: int, hash_name: str, fields: Mapping[str, object]) -> Splitter:
    """Experiments of two variants, each in its layer, with these fields."""
    raw: dict[str, Any] = {
        "version": 1,
        "hash": hash_name,
        "defaults": {f"p{number}": 0 for number in range(experiments)},
        "layers": [
            {
                "name": f"layer-{number}",
                "seed": f"seed-{number}",
                "experiments": [
                    {
                        "key": f"experiment-{number}",
                        "revision": 1,
                        "state": "running",
                        "slots": [0, 9999],
                        "control": "a",
                        "variants": [
                            {"name": "a", "params": {f"p{number}": 1}},
                            {"name": "b", "params": {f"p{number}": 2}},
                        ],
                        **fields,
                    }
                ],
            }
            for number in range(experiments)
        ],
    }
    return Splitter(check_config(raw))


def ours(
    experiments: int, hash_name: str = "xxh3", fields: Mapping[str, object] | None = None
) -> Work:
    """The splitter's work."""
    compiled = splitter(experiments, hash_name, fields or {})

    def work(units: Sequence[str]) -> None:
        for unit in units:
            compiled.assign(unit, now_us=NOW_US, attributes=CONTEXT)

    return work


def theirs(experiments: int) -> Work:
    """The package's work: one client, whose user is set for each unit."""
    client = GrowthBook()
    written = [
        TheirExperiment(key=f"experiment-{number}", variations=[1, 2], hashVersion=2)
        for number in range(experiments)
    ]

    def work(units: Sequence[str]) -> None:
        for unit in units:
            client.set_attributes({"id": unit, **CONTEXT})
            for experiment in written:
                client.run(experiment)

    return work


def contenders() -> dict[tuple[str, int], Work]:
    """By name and number of experiments."""
    found: dict[tuple[str, int], Work] = {}
    targeting = {"when": {"country": ["DE", "AT"]}, "start": "2020-01-01T00:00:00Z"}
    for experiments in (1, 20):
        found["xxh3", experiments] = ours(experiments)
        found["xxh3, targeted and timed", experiments] = ours(experiments, "xxh3", targeting)
        found["xxh3, sticky", experiments] = ours(experiments, "xxh3", {"sticky": True})
        found["gb2", experiments] = ours(experiments, "gb2")
        found["growthbook (package)", experiments] = theirs(experiments)
    return found


def measure(rounds: int, units: int, tick: Callable[[int], object] = lambda _: None) -> list[Cost]:
    """CPU time of each, in turn, round by round.

    Args:
        rounds: of which the median is taken.
        units: split in a round by each.
        tick: told when one was measured.
    """
    names = [f"user-{number}" for number in range(units)]
    times: dict[tuple[str, int], list[float]] = {}
    works = contenders()
    for _ in range(rounds):
        for key, work in works.items():
            chosen = names if "package" not in key[0] else names[: max(1, units // 10)]
            started = time.process_time()
            work(chosen)
            spent = time.process_time() - started
            times.setdefault(key, []).append(spent / len(chosen) * 1e6)
            tick(1)
    return [
        Cost(name, experiments, median(spent), min(spent), max(spent))
        for (name, experiments), spent in times.items()
    ]
