"""Events of a trip: what was bought among the recommended items, as the server takes it."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from loadtest.trips import Trip

NAMESPACE = uuid.UUID("6c1f6d0e-6f0c-5d0b-9a53-0c7b5e1c9a41")
"""Of the event ids; any other would do as well, as long as it stays."""


def sold(trip: Trip, recommended: Sequence[str]) -> dict[str, int]:
    """Revenue of the recommended items that the trip bought."""
    lines = dict(zip(trip.item_ids, trip.revenue_micros, strict=True))
    return {item_id: lines[item_id] for item_id in recommended if item_id in lines}


def feedback(
    run_id: str, trip: Trip, request_id: str, sales: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Events of a trip, with ids that are the same whenever the run sends them again."""
    events: list[dict[str, Any]] = []
    for item_id, revenue_micros in sales.items():
        for kind in ("click", "conversion"):
            name = "\x1f".join((run_id, trip.trip_id, item_id, kind))
            event: dict[str, Any] = {
                "event_id": uuid.uuid5(NAMESPACE, name).hex,
                "type": kind,
                "request_id": request_id,
                "item_id": item_id,
                "event_ts": rfc3339(trip.ts_us),
            }
            if kind == "conversion":
                event |= {"revenue_micros": revenue_micros, "currency": trip.currency}
            events.append(event)
    return events


def rfc3339(ts_us: int) -> str:
    """A time as HTTP bodies have it."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)).isoformat()
