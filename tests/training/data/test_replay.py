import json
from decimal import Decimal

import pyarrow.parquet as pq

from tests.training.tables import Source, day
from training.data.dataset import PreparedDataset
from training.data.replay import TRIPS, USERS


def test_users_know_only_what_was_before_the_test_period(corner: PreparedDataset) -> None:
    users = pq.read_table(corner.replay / USERS).to_pylist()
    for user in users:
        user["features_json"] = json.loads(user["features_json"])
    assert users == [
        {
            "user_id": "u1",
            "features_json": {'home "town"': "Bonn", "who's": "u1"},
            "history_item_ids": ["a", "b", "b", "a", "a"],
            "history_ts_us": [day(0), day(0), day(16, -1), day(16), day(23, -1)],
        },
        {
            "user_id": "u2",
            "features_json": {"who's": "u2"},
            "history_item_ids": ["a", "c", "c", "c"],
            "history_ts_us": [day(2), day(2), day(16), day(20)],
        },
        {
            "user_id": "u3",
            "features_json": {'home "town"': "Köln", "who's": "u3"},
            "history_item_ids": [],
            "history_ts_us": [],
        },
    ]


def test_trips_are_in_time_order_and_hold_items_that_are_not_eligible(
    corner: PreparedDataset,
) -> None:
    def trip(
        user: str, ts_us: int, context: dict[str, str], bought: dict[str, int]
    ) -> dict[str, object]:
        return {
            "trip_id": f"{user}-{ts_us}",
            "user_id": user,
            "ts_us": ts_us,
            "context_json": context,
            "item_ids": list(bought),
            "revenue_micros": list(bought.values()),
            "currency": "EUR",
        }

    trips = pq.read_table(corner.replay / TRIPS).to_pylist()
    for row in trips:
        row["context_json"] = json.loads(row["context_json"])
    assert trips == [
        trip("u1", day(23), {"store": "s9"}, {"a": 19_990_000, "c": 3_070_000}),
        trip("u2", day(23), {"store": "s1"}, {"c": 3_000_000}),
        trip("u2", day(25), {"store": "s1"}, {"z": 9_990_000}),
        trip("u2", day(30), {}, {"b": 1_234_560_000}),
    ]


def test_all_money_of_the_test_period_is_there(
    random_source: Source, random_dataset: PreparedDataset
) -> None:
    trips = pq.read_table(random_dataset.replay / TRIPS)
    lines = [
        line for line in random_source.lines if line.ts_us >= random_dataset.meta.test_start_us
    ]
    paid = sum(Decimal(line.paid) for line in lines)
    assert sum(map(sum, trips["revenue_micros"].to_pylist())) == paid * 1_000_000
    assert sum(map(len, trips["item_ids"].to_pylist())) == len(lines)
