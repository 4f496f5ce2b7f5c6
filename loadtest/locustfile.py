"""Closed-loop load: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8000`.

Users ask for recommendations, as often as a Zipf law has it: few ask much, many ask once. Some of
them click and buy what they are shown, which fills their histories. Every body is checked, not only
its status. All of it lands in the server's event log, so point it at a data directory of its own.
"""

import random
import uuid
from datetime import UTC, datetime
from itertools import accumulate, count
from typing import Any

from locust import FastHttpUser, task

SEED = 7
HOUSEHOLDS = 5000
ZIPF_EXPONENT = 1.1
NUM = 20
BUYING_SHARE = 0.3

_CUMULATIVE = list(accumulate(rank**-ZIPF_EXPONENT for rank in range(1, HOUSEHOLDS + 1)))


class Visitor(FastHttpUser):
    """Asks, and sometimes buys."""

    network_timeout = 5.0
    connection_timeout = 5.0
    numbers = count()

    def on_start(self) -> None:
        """Give every visitor a random sequence of its own."""
        self.random = random.Random(SEED + next(self.numbers))

    @task
    def visit(self) -> None:
        """One visit: recommendations, and perhaps a purchase."""
        rank = self.random.choices(range(1, HOUSEHOLDS + 1), cum_weights=_CUMULATIVE)[0]
        user_id = f"loadtest-{rank}"
        answer = self._recommend(user_id)
        if answer and answer["items"] and self.random.random() < BUYING_SHARE:
            self._buy(user_id, answer)

    def _recommend(self, user_id: str) -> dict[str, Any] | None:
        body = {"user_id": user_id, "num": NUM}
        with self.client.post("/v1/recommend", json=body, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return None
            answer: dict[str, Any] = response.json()
            fault = fault_of(answer)
            if fault:
                response.failure(fault)
                return None
            return answer

    def _buy(self, user_id: str, answer: dict[str, Any]) -> None:
        item_id = self.random.choice(answer["items"])["item_id"]
        now = datetime.now(UTC).isoformat()
        about = {"request_id": answer["request_id"], "item_id": item_id, "event_ts": now}
        money = {"revenue_micros": 1_000_000, "currency": "USD"}
        events = [
            {"event_id": uuid.uuid4().hex, "type": "click", **about},
            {"event_id": uuid.uuid4().hex, "type": "conversion", **about, **money},
        ]
        with self.client.post(
            "/v1/events", json={"events": events}, catch_response=True
        ) as response:
            if response.status_code != 202 or response.json()["accepted"] != len(events):
                response.failure(f"status {response.status_code}: {response.text[:200]}")
        self.client.post(
            f"/v1/users/{user_id}/interactions",
            json={"interactions": [{"item_id": item_id, "ts": now}]},
            name="/v1/users/[id]/interactions",
        )


def fault_of(answer: dict[str, Any]) -> str | None:
    """What is wrong with an answer's body, if anything is."""
    items = answer.get("items", [])
    if not answer.get("request_id") or not answer.get("bundle"):
        return "the answer names no request or no bundle"
    if [item["position"] for item in items] != list(range(len(items))):
        return "positions do not count from 0"
    if len({item["item_id"] for item in items}) != len(items):
        return "an item stands twice in the answer"
    if len(items) > NUM or not items:
        return f"{len(items)} items for {NUM} asked"
    scores = [item["score"] for item in items]
    if not answer["degraded"] and scores != sorted(scores, reverse=True):
        return "scores are not in descending order"
    return None
