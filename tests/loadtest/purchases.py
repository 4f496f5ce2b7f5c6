"""A small replay folder: households with tastes, and trips that buy what the tiny world sells."""

import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from loadtest.trips import TRIPS, USERS

FIRST_TRIP_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
HOUSEHOLDS = 12


def write_replay(folder: Path, trips: int, seed: int = 3) -> None:
    folder.mkdir(parents=True)
    rng = Random(seed)
    users = [f"hh{n}" for n in range(HOUSEHOLDS)]
    pq.write_table(
        pa.table(
            {
                "user_id": users,
                "features_json": [
                    json.dumps({"taste": rng.choice(["red", "blue"])}) for _ in users
                ],
                "history_item_ids": [["i7", f"i{n + 1}"] for n in range(HOUSEHOLDS)],
                "history_ts_us": [[FIRST_TRIP_US - 2 * HOUR_US, FIRST_TRIP_US - HOUR_US]]
                * HOUSEHOLDS,
            }
        ),
        folder / USERS,
    )
    rows = []
    for n in range(trips):
        bought = rng.sample(range(1, 41), 12)
        rows.append(
            {
                "trip_id": f"t{n}",
                "user_id": rng.choice(users),
                "ts_us": FIRST_TRIP_US + n * HOUR_US,
                "context_json": "{}",
                "item_ids": [f"i{number}" for number in bought],
                "revenue_micros": [number * 1_000_003 for number in bought],
                "currency": "USD",
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / TRIPS)
