"""Processes: a server with all that it starts, what they use, and their end.

Every process of a server carries a mark in its environment, which is inherited: so those are found
that have left their parents. Some write over their environment, so children are looked for, too.
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

PROC = Path("/proc")
MARK = "CASCADE_BENCHMARK_MARK"
STOP_S = 15.0
KILL_S = 5.0
LOG_LINES = 3


class ServerError(RuntimeError):
    """A server that does not start, or died; the message ends with its last lines."""


class _Process(NamedTuple):
    pid: int
    started: int
    """Ticks since the machine was started: a number that is used again has another one."""


class Memory(NamedTuple):
    """Of several processes together, in bytes."""

    proportional: int
    """A page that n processes share counts 1/n for each of them."""
    private: int
    """Pages of one process alone."""


class Processes:
    """A command in the background, and everything that it starts."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        """Start the command in `folder`, its output appended to `log`."""
        self._mark = f"{MARK}={uuid.uuid4().hex}".encode()
        self._log = log
        self._seen: set[_Process] = set()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._main = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, MARK: self._mark.decode().partition("=")[2]},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._main.poll() is None

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            ServerError: it does not.
        """
        if self._main.poll() is not None:
            raise ServerError(f"ended with {self._main.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        """The last lines of the log, in one line."""
        lines = self._log.read_text(errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-LOG_LINES:] if line.strip())

    def pids(self) -> list[int]:
        """Its processes that run now."""
        running = dict(_processes())
        found = {p for p in running if p in self._seen or self._mark in _environment(p.pid)}
        children: dict[int, list[_Process]] = {}
        for process, parent in running.items():
            children.setdefault(parent, []).append(process)
        front = list(found)
        while front:
            new = [p for p in children.get(front.pop().pid, []) if p not in found]
            found.update(new)
            front += new
        self._seen |= found
        return sorted(process.pid for process in found)

    def stop(self) -> None:
        """Ask it to end, and end what is left of it."""
        self.pids()
        if self._main.poll() is None:
            self._main.send_signal(signal.SIGTERM)
            try:
                self._main.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._main.kill()
        deadline_s = time.monotonic() + KILL_S
        while (left := self.pids()) and time.monotonic() < deadline_s:
            for pid in left:
                _kill(pid)
            time.sleep(0.05)
        self._main.wait()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that processes, and their children that have ended, have used."""
    ticks = sum(sum(_times(pid)) for pid in pids)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pids: Iterable[int]) -> Memory:
    """What processes hold together."""
    proportional = private = 0
    for pid in pids:
        for name, kibibytes in _rollup(pid):
            proportional += kibibytes * 1024 if name == "Pss" else 0
            private += kibibytes * 1024 if name.startswith("Private_") else 0
    return Memory(proportional, private)


def _rollup(pid: int) -> list[tuple[str, int]]:
    lines = _read(PROC / str(pid) / "smaps_rollup").decode().splitlines()
    fields = (line.partition(":") for line in lines[1:])
    return [(name, int(value.split()[0])) for name, _, value in fields if "kB" in value]


def _times(pid: int) -> list[int]:
    return [int(ticks) for ticks in _status(pid)[11:15]]


def _processes() -> Iterator[tuple[_Process, int]]:
    """All processes, and their parents."""
    for entry in PROC.iterdir():
        status = _status(int(entry.name)) if entry.name.isdigit() else []
        # One that has ended and that nobody has asked for is still listed.
        if status and status[0] != b"Z":
            yield _Process(int(entry.name), int(status[19])), int(status[1])


def _status(pid: int) -> list[bytes]:
    """Fields of a process after its name, which may hold spaces and brackets; none if it ended."""
    return _read(PROC / str(pid) / "stat").rpartition(b")")[2].split()


def _environment(pid: int) -> list[bytes]:
    return _read(PROC / str(pid) / "environ").split(b"\0")


def _read(path: Path) -> bytes:
    """Content of a file of a process, nothing where that process has just ended or is not ours."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
