import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import cast

import duckdb
import pyarrow.parquet as pq
import pytest
import redis

from abtest.events import EVENT_ADAPTER, Event
from abtest.log import archive as module
from abtest.log.archive import LOCK, ArchiveError, archive
from abtest.log.columns import SCHEMA
from abtest.log.event_log import FIELD, STREAM
from tests.abtest.traffic import (
    DAY_US,
    START_US,
    append,
    assignment,
    click,
    config,
    conversion,
    ranking,
    world,
)

CRASH = """
import os, signal, sys
from pathlib import Path
import redis
from abtest.log.archive import archive

def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

point, socket, folder = sys.argv[1:]
client = redis.Redis(unix_socket_path=socket)
if point == "trim":
    client.xtrim = die
else:
    rename, left = Path.rename, int(point)
    def dying_rename(self, target):
        global left
        if left == 0:
            die()
        left -= 1
        return rename(self, target)
    Path.rename = dying_rename
archive(client, Path(folder))
"""


def in_files(folder: Path) -> list[Event]:
    texts = [
        text
        for path in sorted(folder.glob("day=*/*.parquet"))
        for text in pq.ParquetFile(path).read(["event"])["event"].to_pylist()
    ]
    return [EVENT_ADAPTER.validate_json(text) for text in texts]


def counted(events: list[Event]) -> Counter[str]:
    return Counter(event.model_dump_json() for event in events)


def days(number: int) -> list[Event]:
    """One answer and one click on each of `number` days."""
    events: list[Event] = []
    for day in range(number):
        answer = ranking(f"r{day}", "u1", [assignment("new")], ts_us=START_US + day * DAY_US)
        events += [answer, click(answer, 0)]
    return events


def test_moves_everything_once_into_a_folder_a_day(valkey: redis.Redis, tmp_path: Path) -> None:
    events = days(3)
    append(valkey, events)
    assert archive(valkey, tmp_path / "events") == 6
    assert valkey.xlen(STREAM) == 0
    assert not valkey.exists(LOCK)
    folders = sorted(path.name for path in (tmp_path / "events").iterdir())
    assert folders == ["day=2026-01-01", "day=2026-01-02", "day=2026-01-03"]
    assert counted(in_files(tmp_path / "events")) == counted(events)
    assert archive(valkey, tmp_path / "events") == 0
    append(valkey, [click(ranking("r9", "u1", []), 3)])
    assert archive(valkey, tmp_path / "events") == 1


def test_an_empty_stream_leaves_an_empty_folder(valkey: redis.Redis, tmp_path: Path) -> None:
    assert archive(valkey, tmp_path / "a" / "events") == 0
    assert list((tmp_path / "a" / "events").iterdir()) == []


def test_columns_are_typed_for_sql(valkey: redis.Redis, tmp_path: Path) -> None:
    answer = ranking("r1", "u1", [assignment("new")], items=2, degraded=("features",))
    bought = conversion(answer, 1, 3_000_000)
    refund = conversion(answer, 1, -3_000_000, refund_of=bought.event_id)
    append(valkey, [answer, bought, refund])
    archive(valkey, tmp_path)
    (path,) = tmp_path.glob("day=*/*.parquet")
    assert pq.ParquetFile(path).schema_arrow.remove_metadata() == SCHEMA
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT * EXCLUDE (event, day) FROM '{path}'").fetchall()
    columns = [name for name in SCHEMA.names if name != "event"]
    by_id = {row[1]: dict(zip(columns, row, strict=True)) for row in rows}
    common = {
        "request_id": "r1",
        "unit": "u1",
        "assignments": [assignment("new").model_dump()],
    }
    nothing = dict.fromkeys(columns)
    assert by_id[answer.event_id] == nothing | common | {
        "type": "ranking",
        "event_id": answer.event_id,
        "event_ts_us": START_US,
        "ingest_ts_us": START_US,
        "bundle": "old@1",
        "item_ids": ["i0", "i1"],
        "scores": [1.0, 0.99],
        "latency_us": 9_000,
        "degraded": ["features"],
        "context": {"store": "367"},
        "teams": [],
    }
    assert by_id[refund.event_id] == nothing | common | {
        "type": "conversion",
        "event_id": refund.event_id,
        "event_ts_us": START_US + 60 * 10**6,
        "ingest_ts_us": START_US + 60 * 10**6,
        "item_id": "i1",
        "position": 1,
        "revenue_micros": -3_000_000,
        "currency": "USD",
        "refund_of": bought.event_id,
    }


def test_chunks_are_trimmed_one_by_one(
    valkey: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_EVENTS", 100)
    monkeypatch.setattr(module, "_PAGE_EVENTS", 30)
    events = world(60, config(), seed=3, days=1)
    append(valkey, events)
    assert archive(valkey, tmp_path) == len(events)
    files = list(tmp_path.glob("day=*/*.parquet"))
    assert len(files) >= len(events) // 120
    assert counted(in_files(tmp_path)) == counted(events)


def test_a_retried_event_is_archived_once(valkey: redis.Redis, tmp_path: Path) -> None:
    answer = ranking("r1", "u1", [])
    append(valkey, [answer, answer])
    assert archive(valkey, tmp_path) == 1


@pytest.mark.parametrize("point", ["0", "1", "2", "trim"])
def test_a_killed_archiver_loses_and_doubles_nothing(
    valkey: redis.Redis, tmp_path: Path, point: str
) -> None:
    events = days(3)
    append(valkey, events)
    socket = valkey.get_connection_kwargs()["path"]
    killed = subprocess.run(
        [sys.executable, "-c", CRASH, point, socket, str(tmp_path)],
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert killed.returncode == -signal.SIGKILL
    assert valkey.xlen(STREAM) == 6
    left = {"0": 0, "1": 2, "2": 4, "trim": 6}[point]
    assert len(in_files(tmp_path)) == left
    late = click(ranking("r2", "u1", []), 5)
    append(valkey, [late])
    assert valkey.pttl(LOCK) > 0
    valkey.pexpire(LOCK, 1)

    assert archive(valkey, tmp_path) == 7 - left
    assert counted(in_files(tmp_path)) == counted([*events, late])
    assert valkey.xlen(STREAM) == 0
    assert list(tmp_path.glob("day=*/.*")) == []


def test_two_archivers_take_turns(valkey: redis.Redis, tmp_path: Path) -> None:
    events = world(100, config(), seed=4, days=2)
    append(valkey, events)
    written: list[int] = []
    threads = [
        threading.Thread(target=lambda: written.append(archive(valkey, tmp_path))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [0, len(events)]
    assert counted(in_files(tmp_path)) == counted(events)


def test_a_held_lock_is_named(
    valkey: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.1)
    valkey.set(LOCK, "another")
    with pytest.raises(ArchiveError, match=r"another archiver has held archive:lock for 0\.1 s"):
        archive(valkey, tmp_path)
    assert valkey.get(LOCK) == b"another"


def test_a_lost_lease_stops_the_run_and_keeps_what_was_written(
    valkey: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_EVENTS", 2)
    monkeypatch.setattr(module, "_PAGE_EVENTS", 2)
    monkeypatch.setattr(module, "LEASE_S", 0.2)
    events = days(3)
    append(valkey, events)
    trim = valkey.xtrim

    def trim_and_lose_the_lock(*args: object, **kwargs: object) -> object:
        valkey.delete(LOCK)
        return trim(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(valkey, "xtrim", trim_and_lose_the_lock)
        with pytest.raises(ArchiveError, match=r"longer than the 0\.2 s lease of archive:lock"):
            archive(valkey, tmp_path)
    assert valkey.xlen(STREAM) == 4
    assert archive(valkey, tmp_path) == 4
    assert counted(in_files(tmp_path)) == counted(events)


@pytest.mark.parametrize(
    "fields", [{FIELD: json.dumps({"type": "wink"})}, {FIELD: "no JSON"}, {"other": "x"}]
)
def test_a_foreign_entry_is_named_and_nothing_is_lost(
    valkey: redis.Redis, tmp_path: Path, fields: dict[str, str]
) -> None:
    append(valkey, days(1))
    name = valkey.xadd(STREAM, fields)  # type: ignore[arg-type]
    assert isinstance(name, bytes)
    with pytest.raises(ArchiveError, match=f"entry {name.decode()} of stream events is no event"):
        archive(valkey, tmp_path)
    assert valkey.xlen(STREAM) == 3
    assert not valkey.exists(LOCK)
    valkey.xdel(STREAM, name)
    assert archive(valkey, tmp_path) == 2


def test_files_hold_only_what_the_store_has_on_its_disk(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    valkey.config_resetstat()
    append(valkey, days(1))
    archive(valkey, tmp_path)
    commands = cast("dict[str, dict[str, int]]", valkey.info("commandstats"))
    assert commands["cmdstat_waitaof"]["calls"] == 1
    assert commands["cmdstat_waitaof"]["failed_calls"] == 0
