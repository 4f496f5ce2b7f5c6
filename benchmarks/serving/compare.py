"""Servers compared: every round starts each of them anew and drives it at every concurrency.

Started anew, a server gets its luck anew: which worker took which connection, which core and which
pages it got. Nothing else runs meanwhile, idle servers neither.
"""

import http.client
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving import floor, workload
from benchmarks.serving.answers import wrong_answers
from benchmarks.serving.contenders import (
    HOST,
    OURS,
    ROUTE,
    Contender,
    environment_of,
    shared_environment,
)
from benchmarks.serving.environment import EnvironmentMissingError, python_of
from benchmarks.serving.load import drive, percentile, post
from benchmarks.serving.plan import Plan
from benchmarks.serving.processes import Processes, ServerError, cpu_seconds, memory
from benchmarks.serving.recommender import Recommender
from benchmarks.serving.results import Absent, Held, Point, Served

READY_S = 120.0
TOLD = ".users-told"
"""In a data directory whose server knows the users."""
MEGABYTE = 1e6

Tick = Callable[[str], None]


class Place(NamedTuple):
    """Where things are."""

    root: Path
    """Of the repository."""
    data: Path
    environments: Path


def measure(plan: Plan, chosen: Sequence[Contender], place: Place, tick: Tick) -> Served:
    """All rounds of all contenders with all rankers, in an order drawn anew every round."""
    tick("writing bundles")
    bundles = workload.write(place.data, plan.catalogue)
    found = Served([], [], [], [])
    pythons = _install(chosen, place, found, tick)
    references = {
        ranker: Recommender(served.bundle, served.users) for ranker, served in bundles.items()
    }
    shuffle = random.Random(0)
    for round_ in range(plan.load.rounds):
        for ranker, served in bundles.items():
            taking_part = [c for c in chosen if c.name in pythons]
            for contender in shuffle.sample(taking_part, len(taking_part)):
                tick(f"round {round_ + 1}, {ranker}: {contender.name}")
                turn = _Turn(contender, pythons[contender.name], ranker, round_, served)
                _take(turn, plan, place, references[ranker], found)
            tick(f"round {round_ + 1}, {ranker}: floor")
            _measure_floor(served, ranker, round_, plan, place, found)
    return found


def steps(plan: Plan, chosen: Sequence[Contender]) -> int:
    """How often `measure` ticks."""
    turns = plan.load.rounds * len(plan.catalogue.rankers)
    return 1 + len(chosen) + turns * (len(chosen) + 1)


class _Turn(NamedTuple):
    contender: Contender
    python: Path
    ranker: str
    round: int
    served: workload.Served


def _install(
    chosen: Sequence[Contender], place: Place, found: Served, tick: Tick
) -> dict[str, Path]:
    pythons = {}
    for contender in chosen:
        tick(f"installing {contender.name}")
        try:
            pythons[contender.name] = (
                python_of(place.environments.absolute() / contender.package, contender.requirements)
                if contender.requirements
                else Path(sys.executable)
            )
        except EnvironmentMissingError as error:
            found.absent.append(Absent(contender.name, "", 0, str(error)))
    return pythons


def _take(turn: _Turn, plan: Plan, place: Place, reference: Recommender, found: Served) -> None:
    """One turn; a server that fails is noted, and the others go on."""
    try:
        with _running(turn, plan, place) as (processes, address):
            for concurrency in plan.load.concurrency:
                found.points.append(_drive(turn, plan, concurrency, processes, address, reference))
                processes.check()
            pids = processes.pids()
            used = memory(pids)
            found.held.append(
                Held(
                    turn.contender.name,
                    turn.ranker,
                    turn.round,
                    used.proportional / MEGABYTE,
                    used.private / MEGABYTE,
                    len(pids),
                )
            )
    except (ServerError, OSError, http.client.HTTPException) as error:
        reason = f"{type(error).__name__}: {error}"
        found.absent.append(Absent(turn.contender.name, turn.ranker, turn.round, reason))


@contextmanager
def _running(turn: _Turn, plan: Plan, place: Place) -> Iterator[tuple[Processes, tuple[str, int]]]:
    """A contender that answers."""
    port, workers = _free_port(), plan.load.workers
    command = turn.contender.command(turn.python, turn.served, port, workers)
    environment = environment_of(turn.contender, turn.served, port, workers, place.root)
    log = place.data / "logs" / f"{turn.contender.name.replace(' ', '-')}-{turn.ranker}.log"
    with Processes(command, environment, place.root, log) as processes:
        first = body_of(0, plan.catalogue.answered)
        wait_until_answered(processes, (HOST, port), first)
        told = turn.served.data_dir / TOLD
        if turn.contender.name == OURS and not told.exists():
            workload.put_users(f"http://{HOST}:{port}", turn.served.users, datetime.now(UTC))
            told.touch()
        most, settle_s = max(plan.load.concurrency), plan.load.settle_s
        drive((HOST, port), [post(HOST, ROUTE, first)], most, 0.0, settle_s, lambda: 0.0)
        yield processes, (HOST, port)


def _drive(
    turn: _Turn,
    plan: Plan,
    concurrency: int,
    processes: Processes,
    address: tuple[str, int],
    reference: Recommender,
) -> Point:
    catalogue, load = plan.catalogue, plan.load
    wires = [
        post(HOST, ROUTE, body_of(user, catalogue.answered)) for user in range(catalogue.users)
    ]
    pids = processes.pids()
    window = drive(
        address, wires, concurrency, load.warm_s, load.measured_s, lambda: cpu_seconds(pids)
    )
    answered = len(window.latencies_ms)
    wrong = wrong_answers(window.samples, reference.candidates, catalogue.answered)
    return Point(
        contender=turn.contender.name,
        ranker=turn.ranker,
        round=turn.round,
        concurrency=concurrency,
        requests_per_s=window.requests_per_s,
        p50_ms=percentile(window.latencies_ms, 0.5),
        p99_ms=percentile(window.latencies_ms, 0.99),
        cpu_ms=window.server_cpu_s / answered * 1e3 if answered else float("nan"),
        generator_cpu_share=window.generator_cpu_s / window.seconds,
        answered=answered,
        errors={**window.errors, **wrong},
    )


def _measure_floor(
    served: workload.Served, ranker: str, round_: int, plan: Plan, place: Place, found: Served
) -> None:
    for batch in floor.BATCHES:
        try:
            found.floors.append(
                floor.measure(
                    served,
                    ranker,
                    round_,
                    batch,
                    plan.load.floor_s,
                    processes=plan.load.workers,
                    environment=shared_environment(place.root),
                    root=place.root,
                )
            )
        except RuntimeError as error:
            found.absent.append(Absent("floor", ranker, round_, str(error)))


def body_of(user: int, answered: int) -> bytes:
    """The request of a user."""
    return json.dumps({"user_id": f"u{user}", "num": answered}).encode()


def wait_until_answered(processes: Processes, address: tuple[str, int], body: bytes) -> None:
    """Ask until an answer with status 200 comes.

    Raises:
        ServerError: the server ended, or none came in time.
    """
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        processes.check()
        try:
            connection = http.client.HTTPConnection(*address, timeout=5.0)
            connection.request("POST", ROUTE, body, {"content-type": "application/json"})
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise ServerError(f"no answer in {READY_S:.0f} s: {processes.last_words()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
