"""Synthetic traffic: events of a known world, straight into Parquet or into a store."""

import random
from collections.abc import Iterable
from pathlib import Path

import redis

from abtest.events import (
    Assignment,
    ClickEvent,
    ConversionEvent,
    Event,
    ImpressionEvent,
    RankingEvent,
    StageTrace,
)
from abtest.log.archive import archive
from abtest.log.event_log import FIELD, STREAM
from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.splitter import Splitter

KEY = "new-vs-old"
DAY_US = 86_400 * 10**6
START_US = 1_767_225_600 * 10**6
"""2026-01-01 00:00 UTC."""


def config(weights: tuple[float, float] = (0.5, 0.5), extra: str = "") -> ExperimentConfig:
    return parse_config(f"""
        version = 1
        [defaults]
        bundle = "old"
        [[layers]]
        name = "model"
        seed = "s1"
        [[layers.experiments]]
        key = "{KEY}"
        revision = 1
        state = "running"
        control = "old"
        variants = [
            {{ name = "old", weight = {weights[0]}, params = {{ bundle = "old" }} }},
            {{ name = "new", weight = {weights[1]}, params = {{ bundle = "new" }} }},
        ]
        {extra}
    """)


def assignment(variant: str, *, revision: int = 1, forced: bool = False) -> Assignment:
    return Assignment(
        layer="model", key=KEY, revision=revision, variant=variant, propensity=0.5, forced=forced
    )


def ranking(
    request_id: str,
    unit: str,
    experiments: Iterable[Assignment],
    *,
    items: int = 20,
    ts_us: int = START_US,
    total_us: int = 9_000,
    degraded: tuple[str, ...] = (),
) -> RankingEvent:
    item_ids = tuple(f"i{number}" for number in range(items))
    scores = tuple(1.0 - number / 100 for number in range(items))
    trace = StageTrace(
        name="recall",
        n_in=500,
        n_out=items,
        item_ids=item_ids,
        scores=scores,
        survived=(True,) * items,
    )
    return RankingEvent(
        event_id=f"e-{request_id}",
        event_ts_us=ts_us,
        ingest_ts_us=ts_us,
        request_id=request_id,
        unit=unit,
        experiments=tuple(experiments),
        config_sha="c0ffee",
        bundle="old@1",
        context={"store": "367"},
        item_ids=item_ids,
        scores=scores,
        stages=(trace,),
        latency_us={"recall": total_us // 2, "total": total_us},
        degraded=degraded,
    )


def impression(answer: RankingEvent, position: int) -> ImpressionEvent:
    return ImpressionEvent(
        event_id=f"v-{answer.request_id}-{position}",
        event_ts_us=answer.event_ts_us,
        ingest_ts_us=answer.ingest_ts_us,
        request_id=answer.request_id,
        unit=answer.unit,
        experiments=answer.experiments,
        item_id=answer.item_ids[position],
        position=position,
    )


def click(answer: RankingEvent, position: int, event_id: str | None = None) -> ClickEvent:
    return ClickEvent(
        event_id=event_id or f"k-{answer.request_id}-{position}",
        event_ts_us=answer.event_ts_us,
        ingest_ts_us=answer.ingest_ts_us,
        request_id=answer.request_id,
        unit=answer.unit,
        experiments=answer.experiments,
        item_id=answer.item_ids[position],
        position=position,
    )


def conversion(
    answer: RankingEvent,
    position: int,
    revenue_micros: int,
    *,
    currency: str = "USD",
    refund_of: str | None = None,
    event_id: str | None = None,
) -> ConversionEvent:
    return ConversionEvent(
        event_id=event_id or f"b-{answer.request_id}-{position}-{revenue_micros}",
        event_ts_us=answer.event_ts_us + 60 * 10**6,
        ingest_ts_us=answer.ingest_ts_us + 60 * 10**6,
        request_id=answer.request_id,
        unit=answer.unit,
        experiments=answer.experiments,
        item_id=answer.item_ids[position],
        position=position,
        revenue_micros=revenue_micros,
        currency=currency,
        refund_of=refund_of,
    )


def world(
    units: int, split: ExperimentConfig, *, seed: int, uplift: float = 1.0, days: int = 28
) -> list[Event]:
    """Answers, clicks, purchases and refunds; `uplift` multiplies the prices paid under `new`."""
    rng = random.Random(seed)
    splitter = Splitter(split)
    events: list[Event] = []
    for number in range(units):
        unit = f"u{seed}-{number}"
        given = splitter.assign(unit, now_us=START_US).assignments
        keenness = rng.lognormvariate(0, 1)
        price = uplift if any(a.variant == "new" for a in given) else 1.0
        for trip in range(rng.randrange(1, 6)):
            answer = ranking(
                f"r{seed}-{number}-{trip}",
                unit,
                given,
                items=rng.choice([10, 20, 20]),
                ts_us=START_US + rng.randrange(days * DAY_US),
                total_us=int(rng.lognormvariate(9, 0.4)),
                degraded=("features",) if rng.random() < 0.01 else (),
            )
            events.append(answer)
            for position in range(min(10, int(rng.expovariate(1 / keenness)))):
                events.append(impression(answer, position))
                events.append(click(answer, position))
                micros = int(rng.lognormvariate(1, 0.6) * price * 100) * 10_000
                bought = conversion(answer, position, micros)
                events.append(bought)
                if rng.random() < 0.03:
                    events.append(conversion(answer, position, -micros, refund_of=bought.event_id))
    return sorted(events, key=lambda event: event.event_ts_us)


def append(client: redis.Redis, events: Iterable[Event]) -> None:
    """Write events to the stream as they are, without the log's checks."""
    with client.pipeline(transaction=False) as pipe:
        for event in events:
            pipe.xadd(STREAM, {FIELD: event.model_dump_json()})
        pipe.execute()


def archived(client: redis.Redis, events: Iterable[Event], folder: Path) -> Path:
    """Archive events; returns the folder."""
    append(client, events)
    archive(client, folder)
    return folder
