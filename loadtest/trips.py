"""Trips: the test period's purchases, as a folder that can be replayed.

`users.parquet`: `user_id`, `features_json` (a JSON object of strings) or `features` (a map), and
the history up to the test period in `history_item_ids` and `history_ts_us`, oldest first.
`trips.parquet`: `trip_id`, `user_id`, `ts_us`, `context_json`, distinct `item_ids`, and
`revenue_micros` for each of them in `currency`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

USERS = "users.parquet"
TRIPS = "trips.parquet"


class ReplayError(ValueError):
    """A replay folder that cannot be read; the message names file, fault and remedy."""


class Household(NamedTuple):
    """What is known of a user before the first trip."""

    user_id: str
    features: dict[str, str | None]
    history_item_ids: list[str]
    history_ts_us: list[int]


class Trip(NamedTuple):
    """One shopping trip: when, in which context, and what was bought for how much."""

    trip_id: str
    user_id: str
    ts_us: int
    context: dict[str, str]
    item_ids: list[str]
    revenue_micros: list[int]
    currency: str


def read_trips(folder: Path, limit: int | None = None) -> list[Trip]:
    """The trips of a folder in time order, at most `limit`.

    Raises:
        ReplayError: the file is missing, lacks a column, or lists items without their revenue.
    """
    columns = [*(name for name in Trip._fields if name != "context"), "context_json"]
    table = _read(folder / TRIPS, columns).slice(0, limit)
    trips = []
    for row in table.to_pylist():
        context = json.loads(row.pop("context_json") or "{}")
        trip = Trip(context={k: v for k, v in context.items() if v is not None}, **row)
        if len(trip.item_ids) != len(trip.revenue_micros):
            raise ReplayError(
                f"{folder / TRIPS}: trip {trip.trip_id} has {len(trip.item_ids)} items and "
                f"{len(trip.revenue_micros)} revenues; there must be one for each"
            )
        trips.append(trip)
    return sorted(trips, key=lambda trip: trip.ts_us)


def read_households(folder: Path, user_ids: Iterable[str]) -> Iterator[Household]:
    """Those of a folder's users whose ids are asked for.

    Raises:
        ReplayError: the file is missing or lacks a column.
    """
    wanted = set(user_ids)
    path = folder / USERS
    table = _read(path, ["user_id", "history_item_ids", "history_ts_us"])
    if not {"features", "features_json"} & set(table.column_names):
        raise ReplayError(f"{path} has neither features nor features_json; export it again")
    for batch in table.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            if row["user_id"] in wanted:
                yield Household(
                    row["user_id"], _features(row), row["history_item_ids"], row["history_ts_us"]
                )


def share(user_id: str, shares: int) -> int:
    """The share a household belongs to, the same in every process."""
    return crc32(user_id.encode()) % shares


def _features(row: dict[str, Any]) -> dict[str, str | None]:
    if "features_json" in row:
        features: dict[str, str | None] = json.loads(row["features_json"] or "{}")
        return features
    return dict(row["features"] or [])


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    if not path.is_file():
        raise ReplayError(f"{path} does not exist; make a replay folder with `cascade data`")
    table = pq.read_table(path)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ReplayError(f"{path} lacks {missing}; it has {table.column_names}")
    return table
