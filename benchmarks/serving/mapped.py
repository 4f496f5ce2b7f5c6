"""What an index holds in each of several processes, read into memory and mapped from its file.

    python -m benchmarks.serving.mapped INDEX QUERIES RECALLED FLAG

loads the index, searches, says `loaded` and waits for a line.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from benchmarks.serving.plan import IndexSizes
from benchmarks.serving.processes import memory

READ, MAPPED = "read", "mapped"
FLAGS = {READ: 0, MAPPED: faiss.IO_FLAG_MMAP_IFC}
EMPTY = "none"
PROCESSES = (1, 2)
MEGABYTE = 1e6


class Held(NamedTuple):
    """Memory that an index adds, a process, where so many processes have it."""

    how: str
    processes: int
    private_mb: float
    proportional_mb: float
    """Shared pages counted in equal parts."""


def measure(
    index: Path, queries: Path, sizes: IndexSizes, environment: Mapping[str, str], root: Path
) -> list[Held]:
    """Private and proportional memory, beyond that of a process without an index."""
    held = []
    for how in FLAGS:
        for count in PROCESSES:
            empty = _total(EMPTY, count, index, queries, sizes, environment, root)
            full = _total(how, count, index, queries, sizes, environment, root)
            added = [(a - b) / count / MEGABYTE for a, b in zip(full, empty, strict=True)]
            held.append(Held(how, count, private_mb=added[1], proportional_mb=added[0]))
    return held


def _total(
    how: str,
    count: int,
    index: Path,
    queries: Path,
    sizes: IndexSizes,
    environment: Mapping[str, str],
    root: Path,
) -> tuple[int, int]:
    command = [sys.executable, "-m", __name__, str(index), str(queries), str(sizes.recalled), how]
    running = [
        subprocess.Popen(
            command,
            cwd=root,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != "loaded\n":
                raise RuntimeError(f"the index was not loaded; run {' '.join(command)}")
        return memory(process.pid for process in running)
    finally:
        for process in running:
            process.communicate("\n")


def main(index: str, queries: str, recalled: str, how: str) -> None:
    """One process."""
    faiss.omp_set_num_threads(1)
    queries_QD = np.load(queries)
    if how != EMPTY:
        loaded = faiss.read_index(index, FLAGS[how])
        for query_D in queries_QD:
            loaded.search(query_D[None, :], int(recalled))
    print("loaded", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
