"""Run: kills processes of a server at random under load, then compares archive and ledger."""

import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pyarrow.compute as pc
import pyarrow.parquet as pq
import redis

from abtest.log.archive import archive
from abtest.log.files import reading
from benchmarks.kills.sender import Ledger, Sender
from benchmarks.serving.contenders import HOST, shared_environment
from benchmarks.serving.processes import Processes
from serving.settings import Settings
from serving.state.store import Store

STORE = "store"
KINDS = {"master": b"cli\0serve", "worker": b"serving.worker", "background": b"serving.background"}
"""By what is in the command line."""
WORKERS = 2
SENDERS = 4
ARCHIVE_INTERVAL_S = 0.5
READY_S = 600.0
WHOLE_S = 600.0
"""On a machine that is busy with other things, too."""


class KillsError(RuntimeError):
    """The run did not come to its end."""


class Result(NamedTuple):
    """What the ledger and the archive say."""

    kills: dict[str, int]
    """By the kind of process."""
    restarts: int
    """Of the whole server, by this program."""
    seconds: float
    answers: int
    """Acknowledged."""
    events: int
    """Of feedback, acknowledged."""
    repeats: int
    """Requests that had to be sent again."""
    unlogged: int
    """Answers that said they are not in the log."""
    sent_micros: int
    archived_micros: int
    lost_answers: int
    lost_events: int
    doubled: int
    """Events that are in the archive more than once."""
    strange_events: int
    """Feedback in the archive that nobody sent."""
    faults: tuple[str, ...]
    """Events that were refused, and requests that were wrong."""

    @property
    def clean(self) -> bool:
        """Nothing was lost, doubled, made up or refused, to the micro."""
        wrong = (self.lost_answers, self.lost_events, self.doubled, self.strange_events)
        return not any(wrong) and not self.faults and self.sent_micros == self.archived_micros


class Server:
    """A server of several processes that is started again when it is gone."""

    def __init__(self, data_dir: Path, root: Path) -> None:
        """Start it and wait until it is ready."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        self.url = f"http://{HOST}:{port}"
        self.restarts = 0
        self._data_dir = data_dir
        self._root = root
        self._command = [sys.executable, "-m", "cli", "serve", "--data-dir", str(data_dir)]
        self._command += ["--port", str(port), "--workers", str(WORKERS), "--device", "cpu"]
        self._processes = self._start()
        self.wait_until_ready()

    def kill(self, kind: str, rng: random.Random) -> bool:
        """Kill one process of a kind; False where there is none just now."""
        if kind == STORE:
            pids = self._store_pids()
        else:
            pids = [pid for pid in self._processes.pids() if KINDS[kind] in _command_of(pid)]
        if not pids:
            return False
        os.kill(rng.choice(pids), signal.SIGKILL)
        return True

    def restart_if_gone(self) -> None:
        """Start it again where its first process is gone."""
        if not self._processes.running:
            self.restarts += 1
            # The store outlives its server, and is taken over; workers end by themselves.
            self._processes = self._start()
            self.wait_until_ready()

    def wait_until_ready(self, *, whole: bool = False) -> None:
        """Until it answers, if `whole` with everything in the store.

        Raises:
            KillsError: that takes too long.
        """
        deadline_s = time.monotonic() + (WHOLE_S if whole else READY_S)
        while time.monotonic() < deadline_s:
            try:
                found = httpx.get(f"{self.url}/readyz", timeout=5.0)
                if found.status_code == 200 and not (whole and found.json()["degraded"]):
                    return
            except httpx.TransportError:
                if not self._processes.running:
                    self._processes = self._start()
            time.sleep(0.1)
        raise KillsError(f"the server is not ready: {self._processes.last_words()}")

    def stop(self) -> None:
        """Stop it."""
        self._processes.stop()

    def _store_pids(self) -> list[int]:
        """The store, which may be of a server before this one."""
        store = Store(Settings(data_dir=self._data_dir), may_start=False)
        with store, store.sync_client(timeout_s=1.0) as client:
            try:
                info: Any = client.info("server")
            except redis.RedisError:
                return []
            return [int(info["process_id"])]

    def _start(self) -> Processes:
        environment = shared_environment(self._root)
        environment["CASCADE_ARCHIVE_INTERVAL_S"] = str(ARCHIVE_INTERVAL_S)
        return Processes(self._command, environment, self._root, self._data_dir / "server.log")


def run(data_dir: Path, root: Path, kills: int, seed: int, tick: Callable[[str], None]) -> Result:
    """Kill so many processes, one after another.

    Args:
        data_dir: that is served: bundles and experiments.
        root: of the repository.
        kills: how many.
        seed: of the order and the pauses.
        tick: told of every kill.

    Raises:
        KillsError: the server does not come back.
    """
    rng = random.Random(seed)
    stopping, abandoned = threading.Event(), threading.Event()
    started_s = time.perf_counter()
    server = Server(data_dir, root)
    senders = [Sender(server.url, f"sender-{n}", stopping, abandoned) for n in range(SENDERS)]
    done: Counter[str] = Counter()
    try:
        for kind in order(kills, rng):
            time.sleep(rng.uniform(0.1, 1.5))
            while not server.kill(kind, rng):
                server.restart_if_gone()
                time.sleep(0.1)
            done[kind] += 1
            tick(kind)
            time.sleep(rng.uniform(0.0, 0.5))
            server.restart_if_gone()
        server.wait_until_ready(whole=True)
        stopping.set()
        ledgers = [sender.join() for sender in senders]
        server.wait_until_ready(whole=True)
        _wait_for_reports(data_dir)
    finally:
        stopping.set()
        abandoned.set()
        server.stop()
    return compare(data_dir, ledgers, done, server.restarts, time.perf_counter() - started_s)


def order(kills: int, rng: random.Random) -> list[str]:
    """Kinds to kill, each as often as any other, or once more, in random order."""
    kinds = [kind for kind, _ in zip(cycle((*KINDS, STORE)), range(kills), strict=False)]
    rng.shuffle(kinds)
    return kinds


def compare(
    data_dir: Path, ledgers: list[Ledger], kills: Counter[str], restarts: int, seconds: float
) -> Result:
    """Put everything into the archive, and count it beside the ledger."""
    settings = Settings(data_dir=data_dir)
    with Store(settings) as store, store.sync_client() as client:
        archive(client, settings.events_dir)
    found: Counter[tuple[str, str]] = Counter()
    micros = 0
    with reading(settings.events_dir) as files:
        for file in files:
            table = pq.ParquetFile(file).read(["type", "event_id", "revenue_micros"])
            answered = pc.equal(table["type"], "ranking").to_pylist()
            names = table["event_id"].to_pylist()
            found.update(zip(("answer" if a else "event" for a in answered), names, strict=True))
            micros += pc.sum(table["revenue_micros"]).as_py() or 0
    answers = [name for ledger in ledgers for name in ledger.answers]
    events = {name: paid for ledger in ledgers for name, paid in ledger.events.items()}
    archived = {name for kind, name in found if kind == "event"}
    return Result(
        kills=dict(kills),
        restarts=restarts,
        seconds=seconds,
        answers=len(answers),
        events=len(events),
        repeats=sum(ledger.repeats for ledger in ledgers),
        unlogged=sum(ledger.unlogged for ledger in ledgers),
        sent_micros=sum(events.values()),
        archived_micros=micros,
        lost_answers=sum(("answer", name) not in found for name in answers),
        lost_events=len(events.keys() - archived),
        doubled=sum(count > 1 for count in found.values()),
        strange_events=len(archived - events.keys()),
        faults=tuple(fault for ledger in ledgers for fault in ledger.faults),
    )


def _wait_for_reports(data_dir: Path) -> None:
    """Until feedback that waited for its answer is attributed."""
    deadline_s = time.monotonic() + WHOLE_S
    store = Store(Settings(data_dir=data_dir), may_start=False)
    with store, store.sync_client() as client:
        while client.exists("events:reports") and time.monotonic() < deadline_s:
            time.sleep(0.1)


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
