"""The floor: the same cascade without HTTP, in as many processes as the servers have workers.

No server can be faster than its arithmetic. A request is answered as far as item rows and scores.

    python -m benchmarks.serving.floor BUNDLE USERS BATCH SECONDS

says `ready`, waits for a line, runs, and prints what it did as JSON.
"""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.serving.recommender import Recommender
from benchmarks.serving.results import Floor
from benchmarks.serving.workload import Served

BATCHES = (1, 8)
"""Requests a call that are measured."""
WARM_CALLS = 20


class Run(NamedTuple):
    """What one process did."""

    requests: int
    seconds: float
    cpu_s: float
    call_ms: float


def measure(
    served: Served,
    ranker: str,
    round_: int,
    batch: int,
    seconds: float,
    *,
    processes: int,
    environment: Mapping[str, str],
    root: Path,
) -> Floor:
    """Run processes side by side.

    Raises:
        RuntimeError: one of them fails.
    """
    command = [sys.executable, "-m", __name__, str(served.bundle), str(served.users)]
    running = [
        subprocess.Popen(
            [*command, str(batch), str(seconds)],
            cwd=root,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the floor of {ranker} did not start; run {' '.join(command)}")
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        runs = [Run(**json.loads(process.communicate()[0])) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return Floor(
        ranker=ranker,
        round=round_,
        batch=batch,
        requests_per_s=sum(run.requests / run.seconds for run in runs),
        call_ms=statistics.median(run.call_ms for run in runs),
        cpu_ms=sum(run.cpu_s for run in runs) / sum(run.requests for run in runs) * 1e3,
    )


def run(recommender: Recommender, users: int, batch: int, seconds: float) -> Run:
    """Answer batches of users in turn for some seconds."""
    turns = itertools.cycle(range(users))
    times: list[float] = []
    start_s, cpu_s = time.perf_counter(), time.process_time()
    now_s = start_s
    while now_s < start_s + seconds:
        recommender.answer([f"u{next(turns)}" for _ in range(batch)])
        before_s, now_s = now_s, time.perf_counter()
        times.append(now_s - before_s)
    spent_s = time.process_time() - cpu_s
    return Run(len(times) * batch, now_s - start_s, spent_s, statistics.median(times) * 1e3)


def main(bundle: str, users: str, batch: str, seconds: str) -> None:
    """One process."""
    recommender = Recommender(Path(bundle), Path(users))
    known = len(np.load(users)["history_rows_UL"])
    for _ in range(WARM_CALLS):
        recommender.answer([f"u{number % known}" for number in range(int(batch))])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(run(recommender, known, int(batch), float(seconds))._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
