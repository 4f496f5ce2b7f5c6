"""Sender: users of a server that is killed under them, and the ledger of what it acknowledged.

What was not acknowledged is sent again under the same id, until it is. So in the end the ledger
holds every event that was sent, and every answer that came.
"""

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

TS = "2026-03-01T12:00:00Z"
TIMEOUT_S = 10.0
PAUSE_S = 0.05
REFUNDS = 0.2
"""Share of the visits that give back half of what was bought."""


@dataclass
class Ledger:
    """What was acknowledged."""

    answers: list[str] = field(default_factory=list)
    """Request ids of answers whose event is in the log, as far as the server said."""
    events: dict[str, int] = field(default_factory=dict)
    """Event id -> revenue in micros, 0 of what is no sale."""
    unlogged: int = 0
    """Answers that said they are not in the log."""
    repeats: int = 0
    """Requests without an answer, or with one other than success."""
    faults: list[str] = field(default_factory=list)
    """Events that were refused."""


class Sender:
    """One user after another, over one connection."""

    def __init__(
        self, url: str, name: str, stopping: threading.Event, abandoned: threading.Event
    ) -> None:
        """Begin at once, until `stopping` is set and the last visit is done, or `abandoned`."""
        self.ledger = Ledger()
        self._url = url
        self._name = name
        self._stopping = stopping
        self._abandoned = abandoned
        self._rng = random.Random(name)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> Ledger:
        """The ledger, once everything that was sent is acknowledged."""
        self._thread.join()
        return self.ledger

    def _run(self) -> None:
        visits = 0
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            while not self._stopping.is_set():
                visits += 1
                self._visit(client, visits)

    def _visit(self, client: httpx.Client, visit: int) -> None:
        body = {"user_id": f"{self._name}-{visit}", "num": 5}
        answer = self._post(client, "/v1/recommend", body)
        if answer is None:  # ended before there was an answer
            return
        if "not_logged" in answer["degraded"]:
            self.ledger.unlogged += 1
            return
        self.ledger.answers.append(answer["request_id"])
        micros = self._rng.randrange(1, 10**9)
        about = {"request_id": answer["request_id"], "item_id": answer["items"][0]["item_id"]}
        about["event_ts"] = TS
        name = f"{self._name}-{visit}"
        sale = {"revenue_micros": micros, "currency": "USD"}
        self._report(client, [
            {**about, "event_id": f"{name}-seen", "type": "impression"},
            {**about, "event_id": f"{name}-click", "type": "click"},
            {**about, "event_id": f"{name}-sale", "type": "conversion", **sale},
        ])  # fmt: skip
        if self._rng.random() < REFUNDS:
            back = {"revenue_micros": -(micros // 2 + 1), "refund_of": f"{name}-sale"}
            refund = {**about, "event_id": f"{name}-back", "type": "conversion", **sale, **back}
            self._report(client, [refund])

    def _report(self, client: httpx.Client, events: list[dict[str, Any]]) -> None:
        while True:
            reply = self._post(client, "/v1/events", {"events": events}, insist=True)
            if reply is None:  # the run has failed
                return
            reasons = [rejected["reason"] for rejected in reply["rejected"]]
            if not any("or not known yet" in reason for reason in reasons):
                break
            self._rest()
        refused = {rejected["index"] for rejected in reply["rejected"]}
        self.ledger.faults += reasons
        for number, event in enumerate(events):
            if number not in refused:
                self.ledger.events[event["event_id"]] = event.get("revenue_micros", 0)

    def _post(
        self, client: httpx.Client, path: str, body: dict[str, Any], *, insist: bool = False
    ) -> dict[str, Any] | None:
        """The answer; None where there is none before the end, unless it must be."""
        while not (self._stopping.is_set() and not insist) and not self._abandoned.is_set():
            try:
                response = client.post(path, json=body)
                if response.is_success:
                    found: dict[str, Any] = response.json()
                    return found
                if response.status_code < 500:
                    self.ledger.faults.append(response.text)
            except httpx.TransportError:
                pass
            self._rest()
        return None

    def _rest(self) -> None:
        self.ledger.repeats += 1
        time.sleep(PAUSE_S)
