from datetime import datetime

from loadtest.events import feedback, rfc3339, sold
from loadtest.trips import Trip

TRIP = Trip("t1", "u1", 1_700_000_000_000_001, {}, ["a", "b", "c"], [10, 20, 30], "USD")


def test_recommended_items_that_were_bought_are_sold() -> None:
    assert sold(TRIP, ["x", "c", "a"]) == {"c": 30, "a": 10}


def test_each_sale_is_a_click_and_a_conversion_with_its_revenue() -> None:
    events = feedback("run", TRIP, "r1", {"c": 30})
    shared = {"request_id": "r1", "item_id": "c", "event_ts": "2023-11-14T22:13:20.000001+00:00"}
    click, conversion = ({k: v for k, v in e.items() if k != "event_id"} for e in events)
    assert click == {"type": "click", **shared}
    assert conversion == {
        "type": "conversion", "revenue_micros": 30, "currency": "USD", **shared,
    }  # fmt: skip


def test_event_ids_are_the_same_for_the_same_sale_only() -> None:
    def ids(run_id: str, trip: Trip = TRIP, request_id: str = "r1") -> list[str]:
        return [e["event_id"] for e in feedback(run_id, trip, request_id, {"a": 1, "b": 2})]

    assert ids("run") == ids("run", request_id="another answer, after a retry")
    every = [*ids("run"), *ids("run 2"), *ids("run", TRIP._replace(trip_id="t2"))]
    assert len(set(every)) == len(every) == 12


def test_times_keep_their_microseconds() -> None:
    moment = datetime.fromisoformat(rfc3339(TRIP.ts_us))
    assert moment.microsecond == 1
    assert rfc3339(0) == "1970-01-01T00:00:00+00:00"
