"""Several workers behind one address: real processes, real connections, real signals."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.world import ServerProcess, free_port, write_world

WORKERS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all: each test leaves it answering, but the last, which stops it."""
    data_dir = tmp_path_factory.mktemp("workers")
    write_world(data_dir)
    process = ServerProcess(data_dir, workers=str(WORKERS))
    process.start()
    wait_for_workers(process)
    yield process
    assert process.process is not None
    if process.process.poll() is None:
        assert process.stop() == 0, process.log_path.read_text()


def workers_of(server: ServerProcess) -> list[int]:
    assert server.process is not None
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    children = [int(pid) for pid in path.read_text().split()]
    return [
        pid for pid in children if b"serving.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def established(pid: int, port: int) -> int:
    """Connections of a process to the server's port."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        line[9] in inodes and line[3] == "01" and int(line[1].split(":")[1], 16) == port
        for line in lines
    )


def wait_for_workers(server: ServerProcess) -> None:
    """Until every worker takes connections: each is given one, in turn."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        clients = [httpx.Client(base_url=server.url) for _ in range(WORKERS)]
        for client in clients:
            client.get("/healthz")
        found = [established(pid, server.port) for pid in workers_of(server)]
        for client in clients:
            client.close()
        if len(found) == WORKERS and all(found):
            return
        time.sleep(0.1)
    raise AssertionError(server.log_path.read_text())


def test_connections_are_given_out_evenly(server: ServerProcess) -> None:
    clients = [httpx.Client(base_url=server.url) for _ in range(8)]
    for client in clients:
        assert client.post("/v1/recommend", json={"user_id": "u"}).status_code == 200
    # The connections of the fixture may still be closing.
    deadline = time.monotonic() + 5
    while (counts := [established(pid, server.port) for pid in workers_of(server)]) != [4, 4]:
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)
    for client in clients:
        client.close()


def test_a_killed_worker_is_started_again_and_the_others_answer_on(server: ServerProcess) -> None:
    victim, survivor = workers_of(server)
    clients = [httpx.Client(base_url=server.url, timeout=10) for _ in range(WORKERS)]
    for client in clients:
        client.get("/healthz")
    os.kill(victim, signal.SIGKILL)
    cut = 0
    for client in clients:
        try:
            assert client.post("/v1/recommend", json={"user_id": "u"}).status_code == 200
        except httpx.TransportError:
            cut += 1
    assert cut <= 1
    for n in range(10):  # new connections never meet the dead one
        answer = httpx.post(f"{server.url}/v1/recommend", json={"user_id": f"u{n}"})
        assert answer.status_code == 200
    wait_for_workers(server)
    assert survivor in workers_of(server)
    assert "ended with code -9; it is started again" in server.log_path.read_text()
    for client in clients:
        client.close()


def test_workers_end_when_their_master_is_killed(server: ServerProcess) -> None:
    pids = workers_of(server)
    server.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, server.log_path.read_text()
        time.sleep(0.05)
    # The next master takes the store over that was left behind.
    server.start()
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_workers_start_and_answer_without_their_store(tmp_path: Path) -> None:
    write_world(tmp_path)
    away = f"redis://127.0.0.1:{free_port()}/0"
    server = ServerProcess(tmp_path, workers=str(WORKERS), redis_url=away)
    server.start()
    answer = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "u"})
    assert answer.status_code == 200
    assert answer.json()["degraded"] == ["features_missing", "log_spooled"]
    assert server.stop() == 0


def test_a_bundle_that_cannot_be_served_ends_the_start(tmp_path: Path) -> None:
    write_world(tmp_path)
    os.truncate(tmp_path / "bundles" / "dftopk" / "rank.pt", 100)
    server = ServerProcess(tmp_path, workers=str(WORKERS))
    with pytest.raises(AssertionError):
        server.start()
    assert server.process is not None
    assert server.process.wait(timeout=30) != 0
    log = server.log_path.read_text()
    assert "rank.pt (100 bytes) does not match its checksum" in log
    assert "ended with code 2 before it was ready; its message is above" in log


def test_a_signal_drains_the_requests_under_way(server: ServerProcess) -> None:
    statuses: list[int] = []
    broken: list[Exception] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=10) as client:
            while True:
                try:
                    statuses.append(client.post("/v1/recommend", json={"user_id": "u"}).status_code)
                except httpx.ConnectError:
                    return  # it listens no more
                except httpx.RemoteProtocolError:
                    return  # a kept-alive connection was closed before the request was taken
                except httpx.TransportError as error:
                    broken.append(error)
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(statuses) < 50:
        time.sleep(0.01)
    assert server.stop() == 0
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert [e for e in broken if not isinstance(e, httpx.ReadError)] == []
