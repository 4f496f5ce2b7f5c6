"""Replay: the test period's trips over HTTP, in time order, as Locust users.

Every household belongs to one user, which takes its trips in time order: ask for recommendations,
report the recommended items that were bought, then append everything bought to the history. A
recommended item that was bought is reported as a click and a conversion: the data has no clicks, so
a click here means no more than "was picked up", and revenue is what the item really sold for.

Importing this module patches the process for gevent; run it as `python -m loadtest.replay`.
"""

import argparse
import json
import logging
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import gevent
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FastResponse
from locust.env import Environment
from locust.exception import StopUser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from loadtest.events import feedback, rfc3339, sold
from loadtest.ledger import Ledger
from loadtest.trips import Household, ReplayError, Trip, read_households, read_trips, share

RETRY_FOR_S = 60.0
"""How long a call is tried again while the server is away; it may be restarting."""
RETRIED = (0, 502, 503, 504)
"""Statuses of a server that is away; 0 is a broken or refused connection."""
MAX_PAUSE_S = 2.0
MAX_HISTORY = 10_000


Row = TypeVar("Row", Household, Trip)


class CallError(Exception):
    """A call that stayed unanswered or was refused."""


@dataclass
class Work:
    """What the users of a replay share."""

    run_id: str
    num: int
    households: Sequence[Sequence[Household]]
    trips: Sequence[Sequence[Trip]]
    advance: Callable[[str], None]
    ledger: Ledger = field(default_factory=Ledger)
    started: int = 0
    finished: int = 0


class Shopper(FastHttpUser):
    """Replays one share of the households."""

    abstract = True
    work: Work
    network_timeout = 10.0
    connection_timeout = 5.0

    @task
    def replay_share(self) -> None:
        """Put the households, then take their trips."""
        work = self.work
        mine = work.started
        work.started += 1
        try:
            for household in work.households[mine]:
                self._attempt(f"household {household.user_id}", partial(self._put, household))
                work.advance("households")
            for trip in work.trips[mine]:
                self._attempt(f"trip {trip.trip_id}", partial(self._take, trip))
                work.advance("trips")
        finally:
            work.finished += 1
        raise StopUser

    def _attempt(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except CallError as error:
            self.work.ledger.failures.append(f"{what}: {error}")

    def _put(self, household: Household) -> None:
        history = zip(household.history_item_ids, household.history_ts_us, strict=True)
        interactions = [{"item_id": i, "ts": rfc3339(ts)} for i, ts in history][-MAX_HISTORY:]
        body = {"features": household.features, "interactions": interactions}
        self._call("PUT", f"/v1/users/{quote(household.user_id, safe='')}", "put user", body)

    def _take(self, trip: Trip) -> None:
        work, moment = self.work, rfc3339(trip.ts_us)
        answer = self._call(
            "POST",
            "/v1/recommend",
            "recommend",
            {"user_id": trip.user_id, "num": work.num, "context": trip.context, "ts": moment},
        )
        sales = sold(trip, [item["item_id"] for item in answer["items"]])
        if sales:
            events = feedback(work.run_id, trip, answer["request_id"], sales)
            reply = self._call("POST", "/v1/events", "events", {"events": events})
            if reply["rejected"]:
                raise CallError(f"the server rejected {reply['rejected'][0]}")
        bought = [{"item_id": item_id, "ts": moment} for item_id in trip.item_ids]
        self._call(
            "POST",
            f"/v1/users/{quote(trip.user_id, safe='')}/interactions",
            "interactions",
            {"interaction_id": f"{work.run_id}:{trip.trip_id}", "interactions": bought},
        )
        work.ledger.book(answer["experiments"], list(sales.values()))

    def _call(self, method: str, path: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + RETRY_FOR_S
        pause_s = 0.1
        while True:
            started = time.perf_counter()
            response = self.client.request(method, path, name=name, json=body)
            found = None if response.status_code in RETRIED else _answered(response)
            if found is not None:
                break
            if time.monotonic() > deadline:
                raise CallError(f"{name} was not answered within {RETRY_FOR_S:.0f} s")
            gevent.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        if response.status_code >= 300:
            raise CallError(
                f"{name} was answered {response.status_code}: {(response.text or '')[:300]}"
            )
        if name == "recommend":
            self.work.ledger.latencies_ms.append(1000 * (time.perf_counter() - started))
        return found


def _answered(response: FastResponse) -> dict[str, Any] | None:
    """The body of a success, {} where there is none to have; None if it was cut off on its way."""
    if response.status_code >= 300 or response.status_code == HTTPStatus.NO_CONTENT:
        return {}
    try:
        found: dict[str, Any] = json.loads(response.text or "")
    except json.JSONDecodeError:
        return None
    return found


def replay(
    folder: Path,
    host: str,
    *,
    run_id: str,
    users: int = 8,
    limit: int | None = None,
    num: int = 20,
) -> dict[str, Any]:
    """Replay a folder against a server and say what it acknowledged.

    Repeating a run with its `run_id` repeats no sale: its events are duplicates.

    Raises:
        ReplayError: the folder cannot be read, or there is no server.
    """
    trips = read_trips(folder, limit)
    households = list(read_households(folder, {trip.user_id for trip in trips}))
    _check_server(host)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bars = {
            "households": progress.add_task("households", total=len(households)),
            "trips": progress.add_task("trips", total=len(trips)),
        }
        work = Work(
            run_id=run_id,
            num=num,
            households=_shared(households, users),
            trips=_shared(trips, users),
            advance=lambda bar: progress.advance(bars[bar]),
        )
        _run(work, host, users)
    missing = len(trips) - work.ledger.trips - len(work.ledger.failures)
    if missing > 0:
        work.ledger.failures.append(f"{missing} trips were not replayed: a user ended early")
    return work.ledger.summary(run_id)


def _shared(rows: Sequence[Row], shares: int) -> list[list[Row]]:
    parts: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        parts[share(row.user_id, shares)].append(row)
    return [parts[part] for part in range(shares)]


def _run(work: Work, host: str, users: int) -> None:
    shopper = type("ReplayShopper", (Shopper,), {"work": work, "host": host, "abstract": False})
    environment = Environment(user_classes=[shopper], host=host, catch_exceptions=False)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    while work.finished < users:
        gevent.sleep(0.05)
    runner.quit()


def _check_server(host: str) -> None:
    # Imported here, after Locust has patched the ssl module this would import.
    import urllib.request

    try:
        with urllib.request.urlopen(f"{host}/readyz", timeout=10):
            pass
    except (ValueError, OSError) as error:
        raise ReplayError(
            f"no server is ready at {host} ({error}); start one with `cascade serve`"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay from the command line; 1 where a trip failed, 2 where nothing could be replayed."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.replay", description="Replay trips.")
    parser.add_argument("--folder", type=Path, required=True, help="users.parquet, trips.parquet")
    parser.add_argument("--host", required=True, help="such as http://127.0.0.1:8000")
    parser.add_argument("--users", type=int, default=8, help="concurrent users (default 8)")
    parser.add_argument("--limit-trips", type=int, help="replay only the first N trips")
    parser.add_argument("--num", type=int, default=20, help="items to ask for (default 20)")
    parser.add_argument("--run-id", default=uuid.uuid4().hex, help="repeat it to resume a run")
    parser.add_argument("--json", type=Path, help="write the summary here")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        summary = replay(
            chosen.folder,
            chosen.host.rstrip("/"),
            run_id=chosen.run_id,
            users=chosen.users,
            limit=chosen.limit_trips,
            num=chosen.num,
        )
    except ReplayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = json.dumps(summary, indent=1)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    else:
        print(text)
    for failure in summary["failures"]:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if summary["failed_trips"] else 0


if __name__ == "__main__":
    sys.exit(main())
