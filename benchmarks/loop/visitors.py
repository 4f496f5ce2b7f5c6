"""Visitors: synthetic users who talk to a real server over HTTP.

Legend: V visits, P positions of a list.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pyarrow.parquet as pq

from training.features import to_ts_us
from training.synthetic.response import Lists, Responses, respond
from training.synthetic.visits import Visits
from training.synthetic.world import CURRENCY, DEVICES, Int64, World, item_ids, user_ids

NUM = 20
"""Items a visitor is shown."""
THREADS = 6
HEADERS = {"X-Deadline-Ms": "60000"}
"""Nobody waits here, and an answer in a hurry would not be the model's."""
_LOOK_US = 1_000_000
_PAY_US = 60_000_000


class VisitError(RuntimeError):
    """The server did not do what a visit asked of it."""


class Shown(NamedTuple):
    """What V visits were shown and did."""

    lists: Lists
    variants_V: tuple[str, ...]
    events: int
    """Acknowledged by the server; answers are not among them."""
    revenue_micros: int
    degraded: int
    """Answers that the server says were less than they should be, as when its store was slow."""


class _Visit(NamedTuple):
    items_P: list[int]
    variant: str
    events: int
    revenue_micros: int
    degraded: bool


def put_users(url: str, shop: Path) -> None:
    """Tell the server what the shop's tables know of its users."""
    sales: dict[str, list[dict[str, str]]] = {}
    for row in pq.read_table(shop / "interactions.parquet").to_pylist():
        sale = {"item_id": row["item_id"], "ts": row["moment"].isoformat()}
        sales.setdefault(row["user_id"], []).append(sale)
    with httpx.Client(base_url=url, timeout=60) as client:
        for user in pq.read_table(shop / "users.parquet").to_pylist():
            user_id = user.pop("user_id")
            body = {"features": user, "interactions": sales.get(user_id, [])}
            _done(client.put(f"/v1/users/{user_id}", json=body))


def visit_all(url: str, world: World, visits: Visits, seed: int, tick: Callable[[], None]) -> Shown:
    """Make visits: each user's in their order, several users at once.

    Args:
        url: of the server.
        world: whose users visit.
        visits: who comes when.
        seed: of what they do with what they are shown.
        tick: called after each visit.

    Raises:
        VisitError: the server refused something.
    """
    shares = [np.flatnonzero(visits.users_V % THREADS == share) for share in range(THREADS)]
    items = {item_id: number for number, item_id in enumerate(item_ids(world))}
    people = user_ids(world)

    def take(share: Int64) -> list[tuple[int, _Visit]]:
        with httpx.Client(base_url=url, timeout=60, headers=HEADERS) as client:
            made = []
            for number in share.tolist():
                visit = _Visitor(client, world, items, people, (seed, number))
                made.append((number, visit.visit(visits, number)))
                tick()
            return made

    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(one for made in pool.map(take, shares) for one in made)
    done = [found[number] for number in range(len(visits.users_V))]
    lists = Lists(visits.users_V, visits.devices_V, np.array([one.items_P for one in done]))
    return Shown(
        lists,
        tuple(one.variant for one in done),
        sum(one.events for one in done),
        sum(one.revenue_micros for one in done),
        sum(one.degraded for one in done),
    )


class _Visitor(NamedTuple):
    client: httpx.Client
    world: World
    items: dict[str, int]
    people: tuple[str, ...]
    seed: tuple[int, int]

    def visit(self, visits: Visits, number: int) -> _Visit:
        """Ask, look, click, buy, and have it noted."""
        user, ts_us = int(visits.users_V[number]), int(visits.ts_us_V[number])
        device = int(visits.devices_V[number])
        answer = self._post(
            "/v1/recommend",
            {
                "user_id": self.people[user],
                "num": NUM,
                "context": {"device": DEVICES[device]},
                "ts": _moment(ts_us),
            },
        )
        shown = [self.items[item["item_id"]] for item in answer["items"]]
        lists = Lists(np.array([user]), np.array([device]), np.array([shown]))
        response = respond(self.world, lists, np.random.default_rng(self.seed))
        bought = [answer["items"][p]["item_id"] for p in np.flatnonzero(response.bought_BP[0])]
        events = self._feedback(answer, response, ts_us)
        if events:
            reply = self._post("/v1/events", {"events": events})
            if reply["accepted"] != len(events):
                raise VisitError(f"of {len(events)} events some were refused: {reply}")
        self._note_purchases(user, answer["request_id"], bought, ts_us)
        variants = [one["variant"] for one in answer["experiments"]]
        return _Visit(
            items_P=shown,
            variant=variants[0] if variants else "",
            events=len(events),
            revenue_micros=sum(event.get("revenue_micros", 0) for event in events),
            degraded=bool(answer["degraded"]),
        )

    def _feedback(
        self, answer: dict[str, Any], response: Responses, ts_us: int
    ) -> list[dict[str, Any]]:
        """What the visitor's device reports: what came into view, clicks and purchases."""
        events: list[dict[str, Any]] = []
        for position in np.flatnonzero(response.seen_BP[0]).tolist():
            item_id = answer["items"][position]["item_id"]
            about = {"request_id": answer["request_id"], "item_id": item_id}
            looked = about | {"event_ts": _moment(ts_us + _LOOK_US * (position + 1))}
            events.append({"type": "impression"} | looked)
            if response.clicked_BP[0, position]:
                events.append({"type": "click"} | looked)
            if response.bought_BP[0, position]:
                price = int(self.world.price_micros_I[self.items[item_id]])
                paid = {"event_ts": _moment(ts_us + _PAY_US), "revenue_micros": price}
                events.append({"type": "conversion", "currency": CURRENCY} | about | paid)
        return events

    def _note_purchases(
        self, user: int, request_id: str, bought: Sequence[str], ts_us: int
    ) -> None:
        """Add to the user's history, as the shop does of everything that is bought."""
        moment = _moment(ts_us + _PAY_US)
        taken = [{"item_id": item_id, "ts": moment} for item_id in bought]
        if taken:
            path = f"/v1/users/{self.people[user]}/interactions"
            self._post(path, {"interaction_id": request_id, "interactions": taken})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return _done(self.client.post(path, json=body))


def _done(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= 300:
        raise VisitError(
            f"{response.request.url} was answered {response.status_code}: {response.text[:300]}"
        )
    found: dict[str, Any] = response.json() if response.content else {}
    return found


def _moment(ts_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)
    assert to_ts_us(moment) == ts_us
    return moment.isoformat()
