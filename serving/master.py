"""The master of several workers: accepts connections, hands them round, keeps the workers alive.

Connections are given out in turn, so that every worker gets as many: a kernel that wakes whichever
worker is first can leave all keep-alive connections with one. Bytes never pass through the master.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass

from prometheus_client.multiprocess import mark_process_dead

from serving.server import DRAIN_S, ServerError, listen, run
from serving.settings import Settings
from serving.state.store import Store

RESTART_PAUSE_S = 1.0
"""A worker that died is started again at most once in this time."""
WATCH_INTERVAL_S = 0.5
BACKLOG = 2048

logger = logging.getLogger(__name__)


@dataclass
class _Worker:
    number: int
    process: "subprocess.Popen[bytes]"
    channel: socket.socket
    started_s: float
    ready: bool = False


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first.

    Raises:
        ServerError: the address cannot be listened on, or no worker can start.
        ExperimentError, BundleError, StoreError, ValueError: see `open_service`; of several
            workers they are printed, and a `ServerError` is raised.
    """
    if settings.workers == 1:
        run(settings)  # one worker needs no master
        return
    with (
        listen(settings.host, settings.port) as listener,
        Store(settings, may_be_away=True) as store,
        tempfile.TemporaryDirectory(prefix="cascade-metrics-") as metrics_dir,
    ):
        stopping = threading.Event()
        watch = threading.Thread(target=_keep_alive, args=(store, stopping))
        watch.start()
        try:
            _Master(settings, listener, metrics_dir).run()
        finally:
            stopping.set()
            watch.join()


def _keep_alive(store: Store, stopping: threading.Event) -> None:
    """Start the embedded Valkey again when it died: the master owns it, so that it outlives all."""
    while not stopping.wait(WATCH_INTERVAL_S):
        try:
            if store.revive():
                logger.error("the embedded Valkey had died and was started again")
        except Exception:  # the watch must go on: it is tried again
            logger.exception("the embedded Valkey does not start; it is tried again")


class _Master:
    def __init__(self, settings: Settings, listener: socket.socket, metrics_dir: str) -> None:
        self._settings = settings
        self._number = settings.workers
        self._listener = listener
        self._metrics_dir = metrics_dir
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, _Worker] = {}
        self._turn: deque[int] = deque()
        self._stopping = False

    def run(self) -> None:
        wake, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        self._selector.register(wake, selectors.EVENT_READ, lambda: wake.recv(64))
        for number in range(self._number):
            self._start(number)
        try:
            self._loop()
        finally:
            signal.set_wakeup_fd(-1)
            self._end_workers()
            self._selector.close()
            wake.close()
            waker.close()

    def _loop(self) -> None:
        listening = False
        while not self._stopping:
            for key, _ in self._selector.select(timeout=RESTART_PAUSE_S / 2):
                key.data()
            self._restart_dead()
            if not listening and any(worker.ready for worker in self._workers.values()):
                self._listener.listen(BACKLOG)
                self._listener.setblocking(False)
                self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
                listening = True
                logger.info(
                    "serving %s on http://%s:%d with %d workers",
                    self._settings.data_dir, *self._listener.getsockname()[:2], self._number,
                )  # fmt: skip

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self, number: int) -> None:
        mine, its = socket.socketpair()
        environment = {
            **os.environ,
            **self._settings.as_environment(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "CASCADE_WORKER_NUMBER": str(number),
            "PROMETHEUS_MULTIPROC_DIR": self._metrics_dir,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.worker", str(its.fileno())],
            env=environment,
            pass_fds=(its.fileno(),),
            # A Ctrl-C in the terminal is the master's to pass on.
            process_group=0,
        )
        its.close()
        worker = _Worker(number, process, mine, time.monotonic())
        self._workers[number] = worker
        self._selector.register(mine, selectors.EVENT_READ, lambda: self._heard(worker))

    def _heard(self, worker: _Worker) -> None:
        if worker.channel.recv(64):
            worker.ready = True
            self._turn.append(worker.number)
        else:
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """The worker's end is closed: it is dead, or as good as dead."""
        self._selector.unregister(worker.channel)
        worker.channel.close()
        if worker.number in self._turn:
            self._turn.remove(worker.number)
        code = worker.process.wait()
        mark_process_dead(worker.process.pid, self._metrics_dir)  # type: ignore[no-untyped-call]
        if not worker.ready and not any(w.ready for w in self._workers.values()):
            raise ServerError(
                f"worker {worker.number} ended with code {code} before it was ready; "
                "its message is above"
            )
        logger.error("worker %d ended with code %d; it is started again", worker.number, code)

    def _restart_dead(self) -> None:
        for worker in list(self._workers.values()):
            rested = time.monotonic() - worker.started_s > RESTART_PAUSE_S
            if worker.process.returncode is not None and rested and not self._stopping:
                self._start(worker.number)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(len(self._turn)):
                self._turn.rotate(-1)
                worker = self._workers[self._turn[-1]]
                try:
                    socket.send_fds(worker.channel, [b"C"], [connection.fileno()])
                except OSError:
                    continue  # it just died: the next one takes the connection
                return
            logger.error("no worker is there to take a connection; it is closed")

    def _end_workers(self) -> None:
        self._listener.close()
        processes = [worker.process for worker in self._workers.values()]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + DRAIN_S + 5
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.error(  # noqa: TRY400  # the trace would say nothing more
                    "a worker did not end within %d s; it is killed", DRAIN_S + 5
                )
                process.kill()
                process.wait()
        for worker in self._workers.values():
            worker.channel.close()
