from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtest.trips import TRIPS, USERS, ReplayError, Trip, read_households, read_trips, share


def test_trips_come_in_time_order_and_limited(folder: Path) -> None:
    rows = pq.read_table(folder / TRIPS)
    trips = read_trips(folder)
    assert len(trips) == 60
    assert trips == sorted(trips, key=lambda trip: trip.ts_us)
    assert trips[0] == Trip(
        trip_id="t0",
        user_id=rows["user_id"][0].as_py(),
        ts_us=1_700_000_000_000_000,
        context={},
        item_ids=rows["item_ids"][0].as_py(),
        revenue_micros=rows["revenue_micros"][0].as_py(),
        currency="USD",
    )
    assert read_trips(folder, limit=7) == trips[:7]


def test_context_without_a_value_is_left_out(folder: Path) -> None:
    alter(folder / TRIPS, "context_json", ['{"store": "7", "week": null}'] * 60)
    assert read_trips(folder)[0].context == {"store": "7"}


def test_households_asked_for_with_json_features(folder: Path) -> None:
    [found] = read_households(folder, ["hh3", "nobody"])
    assert found.user_id == "hh3"
    assert set(found.features) == {"taste"}
    assert found.history_item_ids == ["i7", "i4"]
    assert len(found.history_ts_us) == 2


def test_households_with_a_map_of_features(folder: Path) -> None:
    table = pq.read_table(folder / USERS).drop_columns("features_json")
    maps = pa.array([[("taste", "red"), ("age", None)]] * 12, pa.map_(pa.string(), pa.string()))
    pq.write_table(table.append_column("features", maps), folder / USERS)
    [found] = read_households(folder, ["hh3"])
    assert found.features == {"taste": "red", "age": None}


def alter(path: Path, column: str, values: object) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, [values]), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / TRIPS).unlink(), r"trips.parquet does not exist; make a replay folder"),
        (lambda f: drop(f / TRIPS, "currency"), r"trips.parquet lacks \['currency'\]; it has \['"),
        (
            lambda f: alter(f / TRIPS, "revenue_micros", [[1]] * 60),
            "trip t0 has 12 items and 1 revenues; there must be one for each",
        ),
        (lambda f: drop(f / USERS, "history_ts_us"), r"users.parquet lacks \['history_ts_us'\]"),
        (lambda f: drop(f / USERS, "features_json"), "has neither features nor features_json"),
    ],
)
def test_folders_that_cannot_be_replayed(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(ReplayError, match=message):
        list(read_households(folder, [trip.user_id for trip in read_trips(folder)]))


def drop(path: Path, column: str) -> None:
    pq.write_table(pq.read_table(path).drop_columns(column), path)


def test_share_is_stable_and_even() -> None:
    shares = [share(f"household {n}", 4) for n in range(4000)]
    assert shares[:6] == [share(f"household {n}", 4) for n in range(6)]
    assert all(900 < shares.count(part) < 1100 for part in range(4))
    assert share("household 1", 8) == 3
