"""Experiments of several processes: changes under load, restarts, a store that is away."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from abtest.events import EVENT_ADAPTER, RankingEvent
from abtest.log.event_log import FIELD, STREAM
from abtest.split.experiment import ExperimentError
from abtest.split.splitter import Splitter
from serving.bundles.start import load_from_disk
from serving.experiments.version import Standing, remember
from serving.settings import Settings
from serving.telemetry.metrics import Metrics
from tests.serving.bundles.answers import wait_until
from tests.serving.experiments.configs import RAMPED, act, body, config, in_force, put
from tests.serving.patience import body as asked
from tests.serving.test_faults import valkey_pid, wait_until_whole
from tests.serving.world import ServerProcess, write_world

WORKERS = 2


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_world(tmp_path)
    (tmp_path / "experiments.toml").write_text(RAMPED)
    return tmp_path


def logged(server: ServerProcess) -> dict[str, RankingEvent]:
    with redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock")) as client:
        entries: Any = client.xrange(STREAM)
    events = [EVENT_ADAPTER.validate_json(fields[FIELD.encode()]) for _, fields in entries]
    return {event.request_id: event for event in events if isinstance(event, RankingEvent)}


class Load:
    """Requests on connections of their own, so that both workers answer."""

    def __init__(self, url: str, threads: int) -> None:
        self.answers: list[tuple[float, str, dict[str, Any]]] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def has(self, enough: int) -> bool:
        return len(self.answers) > enough

    def _run(self, number: int) -> None:
        headers = {"x-deadline-ms": "30000"}
        with httpx.Client(base_url=self._url, timeout=30, headers=headers) as http:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                user = f"u{number}-{turn % 50}"
                asked_s = time.monotonic()
                answer = http.post("/v1/recommend", json={"user_id": user, "num": 2})
                assert answer.status_code == 200, answer.text
                self.answers.append((asked_s, user, answer.json()))


@pytest.fixture
def served(data_dir: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers of the data directory, and ends those that a test leaves behind."""
    made: list[ServerProcess] = []

    def start(**settings: str) -> ServerProcess:
        made.append(ServerProcess(data_dir, **settings))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        if server.process is not None and server.process.poll() is None:
            server.process.terminate()
            server.process.wait(timeout=20)


def revisions(server: ServerProcess) -> set[int]:
    """Of the workers: each new connection is the next one's."""
    url = f"{server.url}/v1/experiments"
    return {asked(lambda: httpx.get(url, timeout=30))["revision"] for _ in range(2 * WORKERS)}


def everywhere(server: ServerProcess, revision: int) -> bool:
    return revisions(server) == {revision}


def test_changes_under_load_reach_all_workers_and_mix_in_no_answer(
    served: Callable[..., ServerProcess],
) -> None:
    server = served(workers=str(WORKERS))
    versions = {config().sha: config()}
    everywhere_s = []
    with httpx.Client(base_url=server.url, timeout=30) as http, Load(server.url, 4) as load:
        wait_until(lambda: len(load.answers) > 40)
        for found in (
            config(slots=((0, 5000),)),
            config(slots=((0, 10_000),)),
            config(slots=((0, 10_000),), state="paused"),
        ):
            versions[found.sha] = found
            done = put(http, found).json()
            wait_until(partial(everywhere, server, done["revision"]))
            everywhere_s.append((time.monotonic(), found.sha))
            enough = len(load.answers) + 40
            wait_until(partial(load.has, enough))
        assert revisions(server) == {4}
    events = logged(server)
    order, counted = list(versions), Counter[str]()
    for asked_s, user, answer in load.answers:
        event = events[answer["request_id"]]
        counted[event.config_sha] += 1
        # What was answered is what this version says of this user, and nothing of another one.
        expected = Splitter(versions[event.config_sha]).assign(user, now_us=event.ingest_ts_us)
        assert event.experiments == expected.assignments
        named = [(e["key"], e["revision"], e["variant"]) for e in answer["experiments"]]
        assert named == [(a.key, a.revision, a.variant) for a in expected.assignments]
        assert event.bundle == f"{expected.params['bundle']}@1"
        newest = [order.index(sha) for since_s, sha in everywhere_s if asked_s > since_s]
        assert order.index(event.config_sha) >= max(newest, default=0)
    assert set(counted) == set(versions)
    check_concurrent_puts(server)


def check_concurrent_puts(server: ServerProcess) -> None:
    """Of changes made from the same version at once, exactly one is made."""
    sent = [
        {"revision": 4, "config": body(config(slots=((0, 10_000),), hypothesis=f"{n}"))}
        for n in range(16)
    ]

    def change(found: dict[str, Any]) -> int:
        return httpx.put(f"{server.url}/v1/experiments", json=found, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(change, sent))
    assert Counter(statuses) == {200: 1, 409: 15}
    winner = sent[statuses.index(200)]["config"]
    wait_until(lambda: revisions(server) == {5})
    with httpx.Client(base_url=server.url) as http:
        assert in_force(http)["config"] == winner
        changes = http.get("/v1/experiments/audit").json()["changes"]
    assert [change["revision"] for change in changes] == [5, 4, 3, 2, 1]


def test_without_the_store_nothing_is_put_and_restarts_remember(
    data_dir: Path, served: Callable[..., ServerProcess]
) -> None:
    server = served()
    with httpx.Client(base_url=server.url, timeout=30) as http:
        assert act(http, "ranker", "ramp", share=0.2).status_code == 200
        before = in_force(http)
        assert before["revision"] == 2
        pid = valkey_pid(data_dir)
        os.kill(pid, signal.SIGSTOP)  # so that it is away for long enough to be asked
        try:
            refused = put(http, config(slots=((0, 5000),)))
            assert refused.status_code == 503
            assert refused.json()["detail"].startswith("the store is away, nothing was ackn")
            assert http.get("/v1/experiments/audit").status_code == 503
        finally:
            os.kill(pid, signal.SIGKILL)
        assert in_force(http) == before
        wait_until_whole(server.url)
        assert in_force(http) == before
        changes = http.get("/v1/experiments/audit").json()["changes"]
        assert [change["revision"] for change in changes] == [2, 1]
    # After a crash it has from the store what was put, or where that is away, from its memory.
    server.kill()
    (data_dir / "experiments.json").unlink()
    server.start()
    check_in_force(server, lambda now: now == before)
    assert server.stop() == 0
    nowhere = served(redis_url="redis://127.0.0.1:1/0")
    check_in_force(nowhere, lambda now: now == before)
    # An edit holds at once; the store hears of it when there is one.
    path = data_dir / "experiments.toml"
    path.write_text(RAMPED.replace("[0, 1000]", "[0, 3000]"))
    check_in_force(nowhere, lambda now: now["pending"] and now["revision"] == 3)
    nowhere.kill()
    # A bad edit while nothing runs is told of, and stops nothing.
    path.write_text("version = 2")
    server.start()
    check_in_force(server, lambda now: not now["pending"] and now["revision"] == 3)
    check_in_force(server, lambda now: "version: Input should be 1" in str(now["fault"]))
    path.write_text(RAMPED.replace("[0, 1000]", "[0, 4000]"))
    check_in_force(server, lambda now: now["revision"] == 4 and now["fault"] is None)
    assert server.stop() == 0


def check_in_force(server: ServerProcess, holds: Callable[[dict[str, Any]], object]) -> None:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        wait_until(lambda: holds(in_force(http)))


def test_what_a_start_begins_with(data_dir: Path) -> None:
    settings, path = Settings(data_dir=data_dir, device="cpu"), data_dir / "experiments.toml"
    memory = data_dir / "experiments.json"
    first = load_from_disk(settings, Metrics()).standing
    assert (first.version.revision, first.version.by, first.pending) == (1, "file", True)
    newer = first.version.next(config(slots=((0, 2000),)), at=first.version.at, by="ann")
    remember(memory, Standing(version=newer, seen=first.seen))
    path.write_text("an edit, which is looked at later")
    assert load_from_disk(settings, Metrics()).standing == Standing(version=newer, seen=first.seen)
    # What was in force last cannot be served: the file is begun with, if it is newer.
    (data_dir / "bundles" / "dftopk").rename(data_dir / "bundles" / "newer")
    with pytest.raises(ExperimentError, match=r"experiments\.toml is not valid TOML"):
        load_from_disk(settings, Metrics())
    path.write_text(RAMPED)
    with pytest.raises(ExperimentError, match="name bundle 'dftopk', which is not in"):
        load_from_disk(settings, Metrics())
    path.write_text(RAMPED.replace("dftopk", "newer"))
    found = load_from_disk(settings, Metrics()).standing
    assert (found.version.revision, found.version.by, found.pending) == (3, "file", True)
    assert found.version.config == config(RAMPED.replace("dftopk", "newer"))
