"""The background process itself: it outlives no parent, holds nothing of it, and comes back."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from abtest.events import new_event_id
from abtest.log.event_log import FIELD, STREAM
from serving.background.parent import background
from serving.background.steps import Place, steps
from serving.settings import Settings
from serving.state.store import Store
from serving.telemetry.metrics import Metrics
from tests.abtest.traffic import ranking
from tests.serving.world import ServerProcess, write_world


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start(data_dir: Path, **settings: str) -> "subprocess.Popen[bytes]":
    given = {f"CASCADE_{name.upper()}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "serving.background"],
        env=os.environ | {"CASCADE_DATA_DIR": str(data_dir)} | given,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_it_works_beside_its_parent_and_ends_with_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    day_us = 86_400 * 10**6
    now_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    with Store(settings) as store, store.sync_client() as client:
        process = start(tmp_path, archive_interval_s="0.2")
        assert process.stdin is not None
        assert process.stdout is not None
        for ts_us in (now_us, now_us - 10 * day_us):
            event = ranking(new_event_id(), "u", [], ts_us=ts_us)
            client.xadd(STREAM, {FIELD: event.model_dump_json()})
        lines = iter(process.stdout.readline, b"")
        assert any(b'"archived_events":2' in line for line in lines)
        process.stdin.close()
        assert process.wait(timeout=15) == 0
        process.stdout.close()
    assert len(list(settings.events_dir.glob("day=*/*.parquet"))) == 2
    assert (tmp_path / "valkey" / "owner.lock").exists()


@pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1/0"])
def test_it_starts_no_store_and_goes_on_without_one(tmp_path: Path, redis_url: str | None) -> None:
    more = {} if redis_url is None else {"redis_url": redis_url}
    process = start(tmp_path, archive_interval_s="0.1", **more)
    assert process.stdin is not None
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(4)]
    assert all(b"ConnectionError" in line for line in told)
    assert sum(b'"step":"archive"' in line for line in told) >= 2
    process.stdin.close()
    assert process.wait(timeout=15) == 0
    process.stdout.close()
    assert not list(tmp_path.glob("valkey/*.sock"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("in-background")
    write_world(data_dir)
    process = ServerProcess(data_dir, archive_interval_s="0.2", workers="2", signing_key="s" * 40)
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()


def background_of(server: ServerProcess) -> list[int]:
    assert server.process is not None
    return [pid for worker in children_of(server.process.pid) for pid in background_under(worker)]


def background_under(worker: int) -> list[int]:
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(worker)}
    return [pid for pid, command in commands.items() if b"serving.background" in command]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def sockets_of(pid: int) -> set[str]:
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {link for link in links if link.startswith("socket:")}


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def test_it_is_one_humble_process_without_secrets_of_its_parent(served: ServerProcess) -> None:
    wait_until(lambda: len(background_of(served)) == 1)
    [pid] = background_of(served)
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 10)
    # With the worker's channel to the master in its hands, a dead worker would not be noticed.
    assert sockets_of(pid) & sockets_of(parent_of(pid)) == set()
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"CASCADE_ARCHIVE_INTERVAL_S=0.2" in environment
    assert b"CASCADE_SIGNING_KEY" not in environment


def test_it_inherits_no_descriptor_even_where_its_parent_lets_it(tmp_path: Path) -> None:
    ends = os.pipe()
    for end in ends:
        os.set_inheritable(end, True)
    pipe = Path(f"/proc/self/fd/{ends[0]}").readlink()

    async def look() -> None:
        async with background(Settings(data_dir=tmp_path), Metrics()):
            async with asyncio.timeout(30):
                while not (found := background_under(os.getpid())):
                    await asyncio.sleep(0.05)
            held = [fd.readlink() for fd in Path(f"/proc/{found[0]}/fd").iterdir()]
            assert pipe not in held

    asyncio.run(look())
    for end in ends:
        os.close(end)


def test_it_is_started_again_when_it_died(served: ServerProcess) -> None:
    wait_until(lambda: len(background_of(served)) == 1)
    [pid] = background_of(served)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: background_of(served) not in ([], [pid]))
    assert "the background process ended with code -9; it is started" in served.log_path.read_text()
    httpx.post(f"{served.url}/v1/recommend", json={"user_id": "u"}).raise_for_status()

    def metrics() -> str:
        return httpx.get(f"{served.url}/metrics").text

    wait_until(lambda: "cascade_archived_events_total 1.0" in metrics())
    assert "cascade_background_restarts_total 1.0" in metrics()
    assert 'cascade_background_runs_total{outcome="done",step="archive"}' in metrics()


def test_it_ends_when_its_worker_is_killed(served: ServerProcess) -> None:
    wait_until(lambda: len(background_of(served)) == 1)
    [pid] = background_of(served)
    os.kill(parent_of(pid), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    wait_until(lambda: len(background_of(served)) == 1)


def test_days_that_are_not_kept_are_dropped(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with Store(Settings(data_dir=tmp_path)) as store, store.sync_client() as client:
        for age in (0, 2, 3, 4):
            ts_us = int((now - timedelta(days=age)).timestamp() * 1_000_000)
            event = ranking(f"r{age}", "u", [], ts_us=ts_us)
            client.xadd(STREAM, {FIELD: event.model_dump_json()})
        counts = []
        for days in (None, 3):
            settings = Settings(data_dir=tmp_path, retention_days=days)
            by_name = {step.name: step for step in steps(settings)}
            for name in ("archive", "compact", "retain"):
                counts.append(dict(by_name[name].run(Place(settings, client))))
    nothing = {"replaced_files": 0}
    assert counts == [
        {"archived_events": 4}, nothing, {}, {"archived_events": 0}, nothing, {"dropped_files": 1},
    ]  # fmt: skip
    kept = sorted(path.name for path in (tmp_path / "events").iterdir())
    assert kept == [f"day={now.date() - timedelta(days=age)}" for age in (3, 2, 0)]
