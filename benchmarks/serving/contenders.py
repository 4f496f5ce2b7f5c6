"""Contenders: servers of the same cascade, each set up as its own documentation advises.

Every one of them has as many workers as there are cores to work on, one thread in each, and the
same environment: threads, allocator, bundle.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving import recommender
from benchmarks.serving.workload import Served

HOST = "127.0.0.1"
ROUTE = "/v1/recommend"
OURS = "cascade"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""So that glibc keeps the pages of large activations; returned, they are faulted in every call."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

Command = Callable[[Path, Served, int, int], list[str]]
"""Of an interpreter, what is served, the port, and the number of workers."""


class Contender(NamedTuple):
    """A server of the cascade."""

    name: str
    setting: str
    """What was chosen, for the page."""
    command: Command
    environment: Mapping[str, str] = {}
    requirements: tuple[str, ...] = ()
    """What pip installs into an environment of its own; ours is used where this is empty."""

    @property
    def package(self) -> str:
        """What its version is told of; empty where it is ours."""
        first = self.requirements[0] if self.requirements else ""
        return first.partition("==")[0].partition("[")[0]


def contenders() -> list[Contender]:
    """All of them, ours first."""
    return [
        Contender(
            OURS,
            "everything on: histories from its store, an experiment split, every answer logged "
            "before it leaves",
            _serve,
        ),
        Contender(
            "plain FastAPI",
            "uvicorn workers with uvloop and httptools, no access log; computed on the event "
            "loop, orjson",
            _module("plain"),
        ),
        *_mosecs(),
        Contender(
            "LitServe",
            "`fast_queue`, two API processes beside the workers, no batches (of 8 were slower), "
            "orjson",
            _module("lit_server"),
            {
                "BENCHMARK_MAX_BATCH": "1",
                "BENCHMARK_MAX_WAIT_MS": "0",
                "BENCHMARK_API_SERVERS": "2",
            },
            ("litserve==0.2.19",),
        ),
        Contender(
            "BentoML",
            "no access log, metrics or monitoring; async method on the event loop, no batches",
            _bento,
            {"BENTOML_DO_NOT_TRACK": "True"},
            ("bentoml==1.4.39",),
        ),
        Contender(
            "Ray Serve",
            "`RAY_SERVE_ENABLE_HA_PROXY`, `RAY_SERVE_THROUGHPUT_OPTIMIZED`; async method on the "
            "event loop, no batches, orjson",
            _module("ray_app"),
            {
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
            ("ray[serve]==2.60.0",),
        ),
    ]


def _mosecs() -> list[Contender]:
    """Once without batches, which suits one connection, and once with, which suits many."""
    command = _module("mosec_server", "--address", HOST, "--log-level", "warning")
    pinned = ("mosec==0.9.8",)
    one = {"BENCHMARK_MAX_BATCH": "1", "BENCHMARK_MAX_WAIT_MS": "1"}
    many = {"BENCHMARK_MAX_BATCH": "8", "BENCHMARK_MAX_WAIT_MS": "1"}
    return [
        Contender("mosec", "no batches, orjson", command, one, pinned),
        Contender(
            "mosec, batches",
            "batches of up to 8, a wait of at most 1 ms, the least there is; orjson",
            command,
            many,
            pinned,
        ),
    ]


def shared_environment(root: Path) -> dict[str, str]:
    """Environment variables of whatever is measured in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if name[:8] != "CASCADE_"}
    told = {"PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore"}
    return {**inherited, **ONE_THREAD, **MALLOC, **told}


def environment_of(
    contender: Contender, served: Served, port: int, workers: int, root: Path
) -> dict[str, str]:
    """Environment variables of a contender's processes."""
    return {
        **shared_environment(root),
        recommender.BUNDLE: str(served.bundle.absolute()),
        recommender.USERS: str(served.users.absolute()),
        recommender.PORT: str(port),
        recommender.WORKERS: str(workers),
        **contender.environment,
    }


def _serve(python: Path, served: Served, port: int, workers: int) -> list[str]:
    where = ["--data-dir", str(served.data_dir.absolute()), "--port", str(port)]
    how = ["--workers", str(workers), "--device", "cpu"]
    return [str(python), "-m", "cli", "serve", *where, *how]


def _module(name: str, *options: str) -> Command:
    def command(python: Path, served: Served, port: int, workers: int) -> list[str]:  # noqa: ARG001
        told = ["--port", str(port), *options] if options else []
        return [str(python), "-m", f"benchmarks.serving.peers.{name}", *told]

    return command


def _bento(python: Path, served: Served, port: int, workers: int) -> list[str]:  # noqa: ARG001
    service = "benchmarks.serving.peers.bento_service:Recommend"
    where = ["--host", HOST, "--port", str(port)]
    return [str(python), "-m", "bentoml", "serve", service, *where, "--quiet"]
