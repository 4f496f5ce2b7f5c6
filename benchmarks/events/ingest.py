"""Ingest: events over HTTP to a server of two workers, with the sender on the same cores."""

import http.client
import itertools
import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.serving import workload
from benchmarks.serving.compare import body_of, wait_until_answered
from benchmarks.serving.contenders import HOST, shared_environment
from benchmarks.serving.load import drive, percentile, post
from benchmarks.serving.plan import QUICK
from benchmarks.serving.processes import Processes, cpu_seconds

CATALOGUE = QUICK.catalogue._replace(rankers=("mlp",))
ANSWERS = 500
"""That events are about."""
WORKERS = 2
TS = "2026-03-01T12:00:00Z"
MONEY = {"revenue_micros": 1_990_000, "currency": "USD"}


class Shape(NamedTuple):
    """How events are sent."""

    name: str
    batch: int
    """Events a request."""
    connections: int
    archive_interval_s: float


SHAPES = (
    Shape("100 a request", 100, 8, 3600.0),
    Shape("100 a request, archived every 5 s", 100, 8, 5.0),
    Shape("1 a request", 1, 32, 3600.0),
    Shape("1 a request, archived every 5 s", 1, 32, 5.0),
)


class Taken(NamedTuple):
    """One run."""

    shape: str
    round: int
    seconds: float
    events: int
    """Acknowledged."""
    p50_ms: float
    p99_ms: float
    server_cpu_s: float
    """Of all processes of the server: workers, store, archive."""
    sender_cpu_s: float
    errors: dict[str, int]


def measure(
    data: Path, root: Path, shapes: Sequence[Shape], rounds: int, seconds: float,
    tick: Callable[[str], None],
) -> list[Taken]:  # fmt: skip
    """Every shape in every round, each with a server of its own."""
    found = []
    for round_, shape in itertools.product(range(rounds), shapes):
        tick(f"round {round_ + 1}: {shape.name}")
        served = workload.write(data, CATALOGUE)["mlp"]
        with _running(served.data_dir, root, shape) as (processes, port):
            found.append(_drive(processes, port, shape, round_, seconds))
    return found


def _drive(processes: Processes, port: int, shape: Shape, round_: int, seconds: float) -> Taken:
    answers = list(_answers(port, ANSWERS))
    # More than are sent: an event that is sent again is cheaper than one that is new.
    requests = int(seconds * 1.5 * (45_000 / shape.batch if shape.batch > 1 else 4_000)) + 100
    wires = [post(HOST, "/v1/events", _body(answers, n, shape.batch)) for n in range(requests)]
    pids = processes.pids()
    window = drive((HOST, port), wires, shape.connections, 1.0, seconds, lambda: cpu_seconds(pids))
    replies = [json.loads(body) for _, body in window.samples]
    assert all(reply["accepted"] == shape.batch for reply in replies), replies[:1]
    return Taken(
        shape.name,
        round_,
        window.seconds,
        len(window.latencies_ms) * shape.batch,
        percentile(window.latencies_ms, 0.5),
        percentile(window.latencies_ms, 0.99),
        window.server_cpu_s,
        window.generator_cpu_s,
        dict(window.errors),
    )


def _answers(port: int, number: int) -> Iterator[tuple[str, str]]:
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=30) as client:
        for user in range(number):
            body = client.post("/v1/recommend", content=body_of(user, 20)).json()
            for item in body["items"]:
                yield body["request_id"], item["item_id"]


def _body(answers: Sequence[tuple[str, str]], request: int, batch: int) -> bytes:
    events = []
    for number in range(request * batch, (request + 1) * batch):
        request_id, item_id = answers[number * 7 % len(answers)]
        kind = ("impression",) * 7 + ("click", "click", "conversion")
        event = {"event_id": f"e{number}", "type": kind[number % 10], "event_ts": TS}
        event |= {"request_id": request_id, "item_id": item_id}
        events.append(event | (MONEY if event["type"] == "conversion" else {}))
    return json.dumps({"events": events}).encode()


@contextmanager
def _running(data_dir: Path, root: Path, shape: Shape) -> Iterator[tuple[Processes, int]]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    where = ["--data-dir", str(data_dir.absolute()), "--port", str(port)]
    command = [sys.executable, "-m", "cli", "serve", *where]
    command += ["--workers", str(WORKERS), "--device", "cpu"]
    environment = shared_environment(root)
    environment["CASCADE_ARCHIVE_INTERVAL_S"] = str(shape.archive_interval_s)
    with Processes(command, environment, root, data_dir / "server.log") as processes:
        wait_until_answered(processes, (HOST, port), body_of(0, 20))
        _wait_for_workers(port)
        yield processes, port


def _wait_for_workers(port: int) -> None:
    """Connections go to workers in turn: so many answers have met every one of them."""
    for _ in range(2 * WORKERS):
        connection = http.client.HTTPConnection(HOST, port, timeout=30.0)
        connection.request("GET", "/readyz")
        connection.getresponse().read()
        connection.close()
