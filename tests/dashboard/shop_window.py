"""A shop window: a server's data directory with two weeks of plausible experiments in it.

Units are split by the real splitter, and their events go into the store's stream as the server
writes them; archiving and reporting are the product's own.
"""

import random
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import redis

from abtest.events import (
    ClickEvent,
    ConversionEvent,
    Event,
    ImpressionEvent,
    RankingEvent,
    new_event_id,
)
from abtest.log.event_log import FIELD, STREAM
from abtest.split.config import parse_config
from abtest.split.splitter import Splitter

KEY = "dftopk-vs-baseline"
DRAFT = "wider-recall"
DAY_US = 86_400 * 10**6
COUNTRIES = ("DE", "DE", "DE", "AT", "CH")

EXPERIMENTS = """
version = 1

[defaults]
bundle = "baseline"

[[holdouts]]
key = "everything-since-may"
seed = "may"
share = 0.05

[[layers]]
name = "model"
seed = "model-1"

[[layers.experiments]]
key = "dftopk-vs-baseline"
revision = 1
state = "running"
hypothesis = "Trained through the soft top-k, retrieval keeps what ranking would have sold: \
users spend more."
slots = [0, 8000]
control = "baseline"
variants = [
    { name = "baseline", weight = 0.5, params = { bundle = "baseline" } },
    { name = "dftopk", weight = 0.5, params = { bundle = "dftopk" } },
]
secondary_metrics = ["orders_per_unit", "click_rate", "conversion_rate", "revenue_per_unit_capped"]
guardrails = [
    { metric = "latency_mean", tolerance = 0.2 },
    { metric = "degraded_share", tolerance = 0.5 },
]
segments = ["country"]
planned_units = PLANNED
force = { "tester-1" = "dftopk" }

[[layers.experiments]]
key = "wider-recall"
revision = 1
state = "draft"
hypothesis = "500 candidates instead of 300 find more of the long tail."
slots = [8000, 9000]
control = "narrow"
variants = [
    { name = "narrow", weight = 0.5, params = { bundle = "baseline" } },
    { name = "wide", weight = 0.5, params = { bundle = "dftopk" } },
]

[[layers]]
name = "look"
seed = "look-1"

[[layers.experiments]]
key = "big-pictures"
revision = 2
state = "aa"
hypothesis = "Larger pictures are clicked more. First, whether the layer splits evenly."
slots = [0, 5000]
control = "small"
variants = [
    { name = "small", weight = 0.34 },
    { name = "large", weight = 0.33 },
    { name = "huge", weight = 0.33 },
]

[[layers.experiments]]
key = "badges"
revision = 1
state = "killed"
hypothesis = "A badge on what others bought."
slots = [5000, 6000]
control = "off"
variants = [{ name = "off", weight = 0.5 }, { name = "on", weight = 0.5 }]
"""


def experiments(planned_units: int) -> str:
    """The configuration, with a plan for so many units."""
    return EXPERIMENTS.replace("PLANNED", str(planned_units))


def traffic(
    config: str, units: int, *, now_us: int, seed: int, days: int = 14, uplift: float = 1.12
) -> Iterator[Event]:
    """What users of the last days were answered and did; `dftopk` is bought from more often."""
    rng = random.Random(seed)
    splitter = Splitter(parse_config(config))
    numbers = count()
    for number in range(units):
        unit = f"user-{number}" if number else "tester-1"
        country = rng.choice(COUNTRIES)
        first = rng.random() ** 1.5 * days
        keenness = rng.lognormvariate(-1.6, 0.8)
        for _ in range(1 + int(rng.expovariate(1 / 1.2))):
            age = (days - rng.uniform(first, days)) * DAY_US
            ts_us = now_us - int(age) - 60 * 10**6
            given = splitter.assign(unit, now_us=ts_us, attributes={"country": country}).assignments
            better = any(a.variant == "dftopk" for a in given)
            name = f"{seed}-{next(numbers)}"
            answer = RankingEvent(
                event_id=new_event_id(),
                event_ts_us=ts_us,
                ingest_ts_us=ts_us,
                request_id=name,
                unit=unit,
                experiments=given,
                config_sha=splitter.config_sha,
                bundle="dftopk@1" if better else "baseline@1",
                context={"country": country},
                item_ids=tuple(f"i{rng.randrange(1, 41)}-{place}" for place in range(10)),
                scores=tuple(1.0 - place / 10 for place in range(10)),
                stages=(),
                latency_us={"total": int(rng.lognormvariate(8.7 + 0.04 * better, 0.35))},
                degraded=("features_stale",) if rng.random() < 0.006 else (),
            )
            yield answer
            yield from _feedback(answer, rng, keenness * (uplift if better else 1.0))


def _feedback(answer: RankingEvent, rng: random.Random, keenness: float) -> Iterator[Event]:
    """Some items are seen, some of these clicked, some of those bought."""
    for position in range(min(10, 1 + int(rng.expovariate(0.28)))):
        about = {
            "event_ts_us": answer.event_ts_us + 10**6 * (position + 1),
            "ingest_ts_us": answer.ingest_ts_us + 10**6 * (position + 1),
            "request_id": answer.request_id,
            "unit": answer.unit,
            "experiments": answer.experiments,
            "item_id": answer.item_ids[position],
            "position": position,
        }
        yield ImpressionEvent.model_validate({"event_id": new_event_id(), **about})
        if rng.random() > keenness:
            continue
        yield ClickEvent.model_validate({"event_id": new_event_id(), **about})
        if rng.random() < 0.4:
            micros = int(rng.lognormvariate(2.2, 0.7) * 100) * 10_000
            money = {"revenue_micros": micros, "currency": "EUR"}
            yield ConversionEvent.model_validate({"event_id": new_event_id(), **about, **money})


def open_store(data_dir: Path) -> redis.Redis:
    """A client of the store that a running server has started."""
    return redis.Redis(unix_socket_path=str(data_dir / "valkey" / "valkey.sock"))


def send(store: redis.Redis, events: Iterator[Event]) -> int:
    """Append events to the stream; returns their number."""
    sent = 0
    while chunk := list(islice(events, 500)):
        with store.pipeline(transaction=False) as pipe:
            for event in chunk:
                pipe.xadd(STREAM, {FIELD: event.model_dump_json()})
            pipe.execute()
        sent += len(chunk)
    return sent
