"""Server processes without the wait: each is a fork of one process that has imported everything.

Importing takes seconds of a core, all the rest of a start a fraction of one. `serving.master.serve`
runs in the child as in any process; only the command line differs. What starts a server as an
operator does is tested in test_cli.py, test_demo.py and test_readme.py.
"""

import atexit
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

POLL_S = 0.02


class Forked:
    """A process, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, log_path: Path, environment: dict[str, str]) -> None:
        """Start a server whose settings are in `environment`; it writes to the log alone."""
        self.returncode: int | None = None
        pid = _parent().ask({"log": str(log_path), "environment": environment})
        assert pid is not None
        self.pid = pid

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _parent().ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if timeout is not None and deadline_s is not None and time.monotonic() > deadline_s:
                raise subprocess.TimeoutExpired(f"server {self.pid}", timeout)
            time.sleep(POLL_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Parent:
    """The process that is forked, as its user sees it: a question a line, an answer a line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.serving.forked"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # a Ctrl-C is for the tests, which stop their servers
        )
        atexit.register(self._process.communicate)

    def ask(self, question: dict[str, object]) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(f"{json.dumps(question)}\n")
            self._process.stdin.flush()
            answer: int | None = json.loads(self._process.stdout.readline())
            return answer


@functools.cache
def _parent() -> _Parent:
    return _Parent()


def _become_server(log_path: str, environment: dict[str, str]) -> None:
    from serving.master import serve
    from serving.settings import Settings

    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(environment)
    logging.basicConfig(level="INFO")
    serve(Settings())


def main() -> None:
    """Answer questions until there are no more; in a child, be a server instead."""
    import serving.master  # noqa: F401  # before the first fork: this is what takes long

    while line := sys.stdin.readline():
        question = json.loads(line)
        if "pid" in question:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        elif (pid := os.fork()) == 0:
            _become_server(question["log"], question["environment"])
            return
        else:
            print(json.dumps(pid), flush=True)


if __name__ == "__main__":
    main()
