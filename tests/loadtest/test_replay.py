"""The replay against a real server, also one that is killed under it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis

from abtest.events import EVENT_ADAPTER, ClickEvent, ConversionEvent, Event, RankingEvent
from abtest.log.event_log import FIELD, STREAM
from loadtest.trips import TRIPS
from tests.loadtest.cutting import cutting
from tests.loadtest.purchases import write_replay
from tests.serving.world import ServerProcess, free_port, write_world


def start_replay(folder: Path, url: str, out: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "loadtest.replay", "--folder", str(folder), "--host", url]
    return subprocess.Popen(
        [*command, "--json", str(out), *more], stderr=subprocess.PIPE, text=True
    )


def finish(replay: "subprocess.Popen[str]") -> tuple[int, str]:
    _, errors = replay.communicate(timeout=100)
    return replay.returncode, errors


def log_of(server: ServerProcess) -> list[Event]:
    with redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock")) as client:
        entries: Any = client.xrange(STREAM)
    return [EVENT_ADAPTER.validate_json(fields[FIELD.encode()]) for _, fields in entries]


def revenue_by_variant(events: list[Event]) -> dict[str, tuple[int, int]]:
    """Conversions and revenue of every variant, each event counted once."""
    sales: dict[str, tuple[int, int]] = {}
    for event in {e.event_id: e for e in events if isinstance(e, ConversionEvent)}.values():
        [assignment] = event.experiments
        name = f"{assignment.key}/{assignment.variant}"
        count, revenue = sales.get(name, (0, 0))
        sales[name] = (count + 1, revenue + event.revenue_micros)
    return sales


def ledger_of(summary: dict[str, Any]) -> dict[str, tuple[int, int]]:
    accounts = summary["accounts"].items()
    return {name: (a["conversions"], a["revenue_micros"]) for name, a in accounts}


def test_ledger_equals_log_and_a_repeated_run_sells_nothing_twice(
    server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "summary.json"
    code, errors = finish(start_replay(folder, server.url, out, "--run-id", "r1"))
    assert code == 0, errors
    summary = json.loads(out.read_text())
    events = log_of(server)
    assert summary["trips"] == 60
    assert ledger_of(summary) == revenue_by_variant(events)
    assert len(summary["accounts"]) == 2
    assert summary["recommend_ms"]["p50"] <= summary["recommend_ms"]["p99"]
    rankings = [e for e in events if isinstance(e, RankingEvent)]
    times = pq.read_table(folder / TRIPS)["ts_us"].to_pylist()
    assert sorted(e.event_ts_us for e in rankings) == times
    assert all(len(e.item_ids) == 20 for e in rankings)
    assert check_sales(folder, events) > 100

    code, errors = finish(start_replay(folder, server.url, out, "--run-id", "r1"))
    assert code == 0, errors
    assert revenue_by_variant(log_of(server)) == ledger_of(summary)


def check_sales(folder: Path, events: list[Event]) -> int:
    """Every recommended item that was bought, and no other, is a click and a conversion."""
    trips = {(t["user_id"], t["ts_us"]): t for t in pq.read_table(folder / TRIPS).to_pylist()}
    expected: Counter[tuple[str, str, int]] = Counter()
    for event in events:
        if isinstance(event, RankingEvent):
            trip = trips[(event.unit, event.event_ts_us)]
            lines = dict(zip(trip["item_ids"], trip["revenue_micros"], strict=True))
            for item_id in set(event.item_ids) & set(lines):
                expected[event.request_id, item_id, lines[item_id]] += 1
    sold = [e for e in events if isinstance(e, ConversionEvent)]
    clicked = [(e.request_id, e.item_id) for e in events if isinstance(e, ClickEvent)]
    assert Counter((e.request_id, e.item_id, e.revenue_micros) for e in sold) == expected
    assert Counter(clicked) == Counter((e.request_id, e.item_id) for e in sold)
    return len(sold)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that the test will kill."""
    write_world(tmp_path / "data")
    process = ServerProcess(tmp_path / "data")
    process.start()
    yield process
    assert process.stop() == 0


def valkey_pid(server: ServerProcess) -> int:
    with redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock")) as client:
        info: Any = client.info("server")
    return int(info["process_id"])


def wait_for_events(server: ServerProcess, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(log_of(server)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kills_in_the_middle_lose_no_acknowledged_event(
    fragile: ServerProcess, tmp_path: Path
) -> None:
    folder, out = tmp_path / "long", tmp_path / "summary.json"
    write_replay(folder, trips=400)
    replay = start_replay(folder, fragile.url, out)
    first_valkey = valkey_pid(fragile)

    wait_for_events(fragile, 200)
    fragile.kill()
    assert replay.poll() is None
    fragile.start()
    assert valkey_pid(fragile) == first_valkey, "the orphaned Valkey was not taken over"

    wait_for_events(fragile, len(log_of(fragile)) + 200)
    os.kill(first_valkey, signal.SIGKILL)
    assert replay.poll() is None

    code, errors = finish(replay)
    assert code == 0, errors
    summary = json.loads(out.read_text())
    assert summary["trips"] == 400
    assert ledger_of(summary) == revenue_by_variant(log_of(fragile))
    assert sum(count for count, _ in ledger_of(summary).values()) > 1000
    assert valkey_pid(fragile) != first_valkey


@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/events"])
def test_an_answer_that_breaks_off_is_asked_for_again(
    path: str, server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "summary.json"
    with cutting(server.url, path, times=3) as (url, asked):
        code, errors = finish(start_replay(folder, url, out, "--limit-trips", "20"))
    assert code == 0, errors
    summary = json.loads(out.read_text())
    assert (summary["trips"], summary["failed_trips"]) == (20, 0)
    assert asked["/v1/recommend"] == 20 + 3 * (path == "/v1/recommend")


def test_trips_that_fail_are_counted_and_named(
    server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "summary.json"
    code, errors = finish(
        start_replay(folder, server.url, out, "--num", "500", "--limit-trips", "3")
    )
    summary = json.loads(out.read_text())
    assert code == 1
    assert (summary["trips"], summary["failed_trips"]) == (0, 3)
    assert "failed: trip t0: recommend was answered 422: " in errors


def test_no_server_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, errors = finish(start_replay(folder, url, tmp_path / "out"))
    assert code == 2
    assert f"error: no server is ready at {url} (" in errors
    assert "Traceback" not in errors


def test_missing_folder_is_said_at_once(server: ServerProcess, tmp_path: Path) -> None:
    code, errors = finish(start_replay(tmp_path / "no", server.url, tmp_path / "out"))
    assert code == 2
    assert "no/trips.parquet does not exist; make a replay folder with" in errors
