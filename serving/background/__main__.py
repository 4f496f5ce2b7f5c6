"""The background process: `python -m serving.background`, started by a worker.

Settings are in the environment, as those of any server. Outcomes go to standard output, a JSON line
each, everything else to standard error. It ends when its parent closes its standard input or is
gone, whatever took the parent away.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

from serving.background.loop import run_steps
from serving.background.outcome import Outcome
from serving.background.steps import Place, steps
from serving.settings import Settings
from serving.state.store import Store
from serving.telemetry import logs

NICENESS = 10
GRACE_S = 5.0
"""A step that runs when the parent is gone has so long to end; it may be cut off at any point."""


def main() -> int:
    """Run the steps until the parent is gone."""
    settings = Settings()
    with _private_output() as output:
        logs.configure(settings.log_format)
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        stopping = threading.Event()
        threading.Thread(target=_watch_parent, args=(stopping,), daemon=True).start()

        def tell(outcome: Outcome) -> None:
            # A parent that is gone reads nothing: the watcher sees it, too.
            with contextlib.suppress(BrokenPipeError):
                output.write(outcome.to_line())
                output.flush()

        with (
            Store(settings, may_be_away=True, may_start=False) as store,
            store.sync_client() as client,
        ):
            run_steps(steps(settings), Place(settings, client), tell, stopping)
    return 0


@contextlib.contextmanager
def _private_output() -> Iterator[IO[bytes]]:
    """Standard output, for outcomes alone: what libraries print goes to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield output


def _watch_parent(stopping: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 64):
        pass
    stopping.set()
    time.sleep(GRACE_S)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
