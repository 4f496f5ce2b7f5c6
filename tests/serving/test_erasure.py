"""Erasure against a real server: nothing of the unit is left on the disk, others stay."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import redis

from tests.serving.patience import SLOW_STORE, answered, body
from tests.serving.world import ServerProcess, write_world

UNIT, OTHER = "Unit-To-Erase-7f3a", "Unit-That-Stays-91bc"
TS = "2026-03-01T12:00:00Z"
LOGS = ("server.log", "valkey.log")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("erasing")
    write_world(data_dir)
    process = ServerProcess(data_dir, archive_interval_s="0.3", workers="2")
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()


def visit(http: httpx.Client, unit: str, name: str) -> None:
    user = {"features": {"taste": "red"}}
    answered(lambda: http.put(f"/v1/users/{unit}", json=user)).raise_for_status()
    answer = body(lambda: http.post("/v1/recommend", json={"user_id": unit, "num": 2}))
    event = {
        "event_id": name,
        "type": "click",
        "event_ts": TS,
        "request_id": answer["request_id"],
        "item_id": answer["items"][0]["item_id"],
    }
    reply = body(lambda: http.post("/v1/events", json={"events": [event]}), 202)
    assert reply["accepted"] == 1, reply


def found_in(data_dir: Path, text: str) -> list[str]:
    """Files of the data directory that hold a text, archived files looked into."""
    found = []
    for path in sorted(data_dir.rglob("*")):
        if not path.is_file() or path.name in LOGS:
            continue
        try:
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += str(pq.read_table(path, partitioning=None).to_pylist()).encode()
        except FileNotFoundError:  # just replaced
            continue
        if text.encode() in content:
            found.append(str(path.relative_to(data_dir)))
    return found


def events_of(data_dir: Path, unit: str) -> int:
    files = data_dir.glob("events/day=*/*.parquet")
    units = [u for f in files for u in pq.ParquetFile(f).read(["unit"])["unit"].to_pylist()]
    return units.count(unit)


def wait_for_completion(http: httpx.Client, unit: str, server: ServerProcess) -> dict[str, Any]:
    deadline = time.monotonic() + 40
    while True:
        receipt = body(lambda: http.get(f"/v1/units/{unit}/erasure"))
        if receipt["state"] == "complete":
            return receipt
        assert time.monotonic() < deadline, (receipt, server.log_path.read_text())
        time.sleep(0.1)


def test_nothing_of_an_erased_unit_is_left(served: ServerProcess) -> None:
    with httpx.Client(base_url=served.url, timeout=10) as http:
        unknown = answered(lambda: http.get(f"/v1/units/{UNIT}/erasure"))
        assert unknown.status_code == 404
        assert unknown.json()["detail"] == (
            f"no erasure of unit {UNIT!r} was asked for; send DELETE /v1/units/UNIT first"
        )
        for number in range(6):  # of both workers
            with httpx.Client(base_url=served.url, timeout=10) as connection:
                visit(connection, UNIT, f"gone-{number}")
                visit(connection, OTHER, f"kept-{number}")
        deadline = time.monotonic() + 20
        while (events_of(served.data_dir, UNIT), events_of(served.data_dir, OTHER)) != (12, 12):
            assert time.monotonic() < deadline, served.log_path.read_text()
            time.sleep(0.1)
        places = {name.partition("/")[0] for name in found_in(served.data_dir, UNIT)}
        assert {"events", "valkey", "journal"} <= places
        visit(http, UNIT, "gone-late")  # is in the stream, at most

        begun = body(lambda: http.delete(f"/v1/units/{UNIT}"), 202)
        again = body(lambda: http.delete(f"/v1/units/{UNIT}"), 202)
        assert again["id"] == begun["id"]
        receipt = wait_for_completion(http, UNIT, served)
        assert receipt["id"] == begun["id"]
        assert 12 <= receipt["removed_events"] <= 14
        assert found_in(served.data_dir, UNIT) == []
        assert events_of(served.data_dir, OTHER) == 12
        with redis.Redis(unix_socket_path=str(served.data_dir / "valkey/valkey.sock")) as store:
            answers: Any = store.keys("answer:*")
            assert len(answers) == 6
            assert not store.exists("erasures:pending")

        newcomer = body(lambda: http.post("/v1/recommend", json={"user_id": UNIT}))
        assert set(newcomer["degraded"]) <= SLOW_STORE, newcomer
        anew = body(lambda: http.delete(f"/v1/units/{UNIT}"), 202)
        assert anew["id"] != receipt["id"]
        assert wait_for_completion(http, UNIT, served)["id"] == anew["id"]
        assert found_in(served.data_dir, UNIT) == []
