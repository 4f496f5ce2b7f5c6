"""Archiving: events from the stream into files."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

from abtest.events import Assignment, ClickEvent, Event, RankingEvent, StageTrace, new_event_id
from abtest.log.archive import archive
from abtest.log.event_log import FIELD, STREAM
from abtest.log.files import reading
from benchmarks.serving.processes import cpu_seconds
from serving.settings import Settings
from serving.state.store import Store

FEEDBACK = 9
"""Events of feedback an answer."""
START_US = 1_767_225_600 * 10**6
_ITEMS = 20
_SENT = 5_000


class Archived(NamedTuple):
    """One run."""

    round: int
    events: int
    seconds: float
    cpu_s: float
    """Of the archiving process."""
    store_cpu_s: float
    file_bytes: int
    stream_bytes: int
    """JSON of the events."""
    peak_rss_bytes: int


def measure(data: Path, events: int, rounds: int, tick: Callable[[str], None]) -> list[Archived]:
    """Archive as many events in every round."""
    found = []
    for number in range(rounds):
        tick(f"round {number + 1}: archive of {events:,} events")
        settings = Settings(data_dir=data / f"archive-{os.getpid()}-{number}")
        with Store(settings) as store, store.sync_client() as client:
            sent = _fill(client, events)
            info = client.info("server")
            assert isinstance(info, dict)
            before = cpu_seconds([info["process_id"]])
            cpu_s, started_s = time.process_time(), time.perf_counter()
            moved = archive(client, settings.events_dir)
            seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
            store_cpu_s = cpu_seconds([info["process_id"]]) - before
        assert moved == events, moved
        with reading(settings.events_dir) as files:
            size = sum(file.stat().st_size for file in files)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found.append(Archived(number, events, seconds, cpu_s, store_cpu_s, size, sent, peak))
    return found


def _fill(client: redis.Redis, events: int) -> int:
    sent = 0
    for number, event in zip(range(events), _traffic(), strict=False):
        if number % _SENT == 0:
            pipeline = client.pipeline(transaction=False)
        text = event.model_dump_json()
        sent += len(text)
        pipeline.xadd(STREAM, {FIELD: text})
        if number % _SENT == _SENT - 1 or number == events - 1:
            pipeline.execute()
    return sent


def _traffic() -> Iterator[Event]:
    """An answer and what was done about it, over and over."""
    experiments = tuple(
        Assignment(layer=f"l{n}", key=f"experiment-{n}", revision=1, variant="new", propensity=0.5)
        for n in range(3)
    )
    items = tuple(str(1_000_000 + n) for n in range(_ITEMS))
    scores = tuple(1 / (n + 2) for n in range(_ITEMS))
    survived = (True,) * _ITEMS
    stage = StageTrace(
        name="rank", n_in=500, n_out=_ITEMS, item_ids=items, scores=scores, survived=survived
    )
    number = 0
    while True:
        number += 1
        about: dict[str, Any] = {
            "event_ts_us": START_US + number * 1000,
            "ingest_ts_us": START_US + number * 1000,
            "request_id": new_event_id() + "0123456789abcdef",
            "unit": f"u{number % 10_000}",
            "experiments": experiments,
        }
        yield RankingEvent(
            event_id=new_event_id(), **about, config_sha="0" * 64, bundle="dftopk@1c7e11711f28",
            context={"store_id": "436"}, item_ids=items, scores=scores, stages=(stage, stage),
            latency_us={"split": 20, "rank": 4000, "total": 7000}, degraded=(),
        )  # fmt: skip
        for position in range(FEEDBACK):
            yield ClickEvent(
                event_id=new_event_id(), **about, item_id=items[position], position=position
            )
