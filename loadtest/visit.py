"""Visit: a user asks for recommendations and, now and then, buys what is shown."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any
from urllib.parse import quote

import gevent
import orjson
from locust.contrib.fasthttp import FastHttpSession, ResponseContextManager

from loadtest.answer import Outcome, Route, Verdict, judge
from loadtest.tally import Call
from loadtest.traffic import LONGEST_THINK, Traffic

CURRENCY = "USD"
PRICE_MICROS = 1_000_000


@dataclass(frozen=True)
class Visitor:
    """Whoever visits next, over one set of connections."""

    session: FastHttpSession
    traffic: Traffic
    rng: Random
    """Decides whether something is bought, which item, and after how long."""
    record: Callable[[Call], None]
    """Told of every request that has ended."""

    def visit(self, user_id: str, intended_s: float) -> None:
        """Ask for recommendations; perhaps think, then report a purchase and add it to the history.

        Args:
            user_id: who visits.
            intended_s: when the visit was to begin, on the clock of `time.perf_counter`.
        """
        num = self.traffic.num
        asked = {"user_id": user_id, "num": num}
        answer = self._send(Route.RECOMMEND, "/v1/recommend", asked, num, intended_s)
        if not answer or self.rng.random() >= self.traffic.buying_share:
            return
        if self.traffic.think_s:
            gevent.sleep(self.think_s())
        item_id = self.rng.choice(answer["items"])["item_id"]
        now = datetime.now(UTC).isoformat()
        events = _events(answer["request_id"], item_id, now)
        self._send(Route.EVENTS, "/v1/events", {"events": events}, len(events))
        path = f"/v1/users/{quote(user_id, safe='')}/interactions"
        bought = {"interactions": [{"item_id": item_id, "ts": now}]}
        self._send(Route.INTERACTIONS, path, bought, 1)

    def think_s(self) -> float:
        """How long to wait now: exponential, cut off so that no step's end waits for long."""
        mean_s = self.traffic.think_s
        return min(self.rng.expovariate(1 / mean_s), LONGEST_THINK * mean_s) if mean_s else 0.0

    def _send(
        self,
        route: Route,
        path: str,
        body: Mapping[str, Any],
        size: int,
        intended_s: float | None = None,
    ) -> Mapping[str, Any]:
        """Send a request, judge and record it; the body of a valid answer, else an empty one."""
        headers = {"Content-Type": "application/json", **self.traffic.headers}
        data = orjson.dumps(body).decode()
        sent_s = time.perf_counter()
        with self.session.post(
            path, data=data, name=route.value, headers=headers, catch_response=True
        ) as response:
            ended_s = time.perf_counter()
            verdict, answer = judge(route, size, response)
            _tell_locust(response, route, verdict)
        latency_s = ended_s - (sent_s if intended_s is None else intended_s)
        self.record(Call(route, verdict, 1000 * latency_s, 1000 * (ended_s - sent_s)))
        return answer


def _tell_locust(response: ResponseContextManager, route: Route, verdict: Verdict) -> None:
    """Give shed and degraded answers entries of their own in Locust's statistics."""
    if verdict.outcome is Outcome.FAILED:
        response.failure(verdict.reasons[0])  # type: ignore[no-untyped-call]
        return
    response.success()  # type: ignore[no-untyped-call]
    if verdict.outcome is not Outcome.OK:
        response.request_meta["name"] = f"{route.value} ({verdict.outcome.value})"


def _events(request_id: str, item_id: str, now: str) -> list[dict[str, Any]]:
    about = {"request_id": request_id, "item_id": item_id, "event_ts": now}
    money = {"revenue_micros": PRICE_MICROS, "currency": CURRENCY}
    return [
        {"event_id": uuid.uuid4().hex, "type": "click", **about},
        {"event_id": uuid.uuid4().hex, "type": "conversion", **about, **money},
    ]
