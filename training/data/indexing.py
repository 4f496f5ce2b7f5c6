"""Indexing: from tables in DuckDB to the arrays of a prepared dataset.

Whatever a dataset comes from, these tables stand in the connection: `users`, `items` and
`interactions` as `open_tables` makes them, `item_rows` and `purchases` as `index_items` does,
`requests` (request, user_row, ts_us, context columns; numbered by user and time) and `truth`
(request, row, micros; each pair once).
"""

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.dataset import Arrays, DatasetMeta, Float32, Int32, Int64
from training.data.fields import encode
from training.data.source import DatasetConfig, DatasetError
from training.data.tables import Columns, identifier
from training.features import OOV, US_PER_DAY

SNAPSHOT_DAYS = 7
POPULARITY_DAYS = 28


def index_items(
    connection: duckdb.DuckDBPyConnection,
    config: DatasetConfig,
    before_us: int,
    shown: str = "SELECT item_id FROM items LIMIT 0",
) -> None:
    """Give every eligible item its row, most often bought first.

    Args:
        connection: holds `interactions`; gets `item_rows` and `purchases`.
        config: of the dataset.
        before_us: purchases before this time make an item eligible.
        shown: SQL of items that are eligible however rarely they were bought.

    Raises:
        DatasetError: no item is eligible.
    """
    connection.execute(
        f"""
        CREATE TABLE item_rows AS
        SELECT item_id, row_number() OVER (ORDER BY coalesce(bought, 0) DESC, item_id) AS row
        FROM (SELECT item_id, count(*) AS bought FROM interactions WHERE ts_us < {before_us}
              GROUP BY item_id)
        FULL JOIN (SELECT DISTINCT item_id, true AS shown FROM ({shown})) USING (item_id)
        WHERE bought >= {config.min_item_count} OR shown
        """
    )
    (eligible,) = one(connection, "SELECT count(*) FROM item_rows")
    if eligible == 0:
        raise DatasetError(
            f"{config.interactions.file}: no item has {config.min_item_count} interactions in the "
            "training period; lower min_item_count"
        )
    # Sorted once; everything below relies on this order.
    connection.execute(
        f"""
        CREATE TABLE purchases AS
        SELECT user_row, coalesce(row, {OOV}) AS row, ts_us, revenue_micros, price_micros
        FROM interactions LEFT JOIN item_rows USING (item_id)
        ORDER BY user_row, ts_us, interactions.item_id
        """
    )


def dataset_arrays(connection: duckdb.DuckDBPyConnection, meta: DatasetMeta) -> Arrays:
    """The arrays of a dataset, from the tables of the connection."""
    purchases = connection.execute("SELECT user_row, row, ts_us FROM purchases").fetchnumpy()
    requests = connection.execute(
        "SELECT user_row, ts_us FROM requests ORDER BY request"
    ).fetchnumpy()
    (users,) = one(connection, "SELECT count(*) FROM users")
    user_starts = np.searchsorted(purchases["user_row"], np.arange(users))
    truth_starts, truth_rows, truth_micros = _truth(connection, len(requests["ts_us"]))
    starts, price, popularity = _snapshots(connection, meta.test_start_us)
    items = "item_rows JOIN items USING (item_id) ORDER BY row"
    known_items = encode(connection, items, meta.item_fields, Columns.feature)
    return Arrays(
        purchase_rows=purchases["row"].astype(np.int32),
        purchase_ts_us=purchases["ts_us"],
        request_user=requests["user_row"].astype(np.int32),
        request_ts_us=requests["ts_us"],
        request_context=encode(
            connection, "requests ORDER BY request", meta.context_fields, Columns.context
        ),
        history_start=user_starts[requests["user_row"]].astype(np.int64),
        history_end=_history_ends(purchases, requests),
        truth_starts=truth_starts,
        truth_rows=truth_rows,
        truth_micros=truth_micros,
        user_fields=encode(
            connection, "users ORDER BY user_row", meta.user_fields, Columns.feature
        ),
        item_fields=np.pad(known_items, ((1, 0), (0, 0)), constant_values=OOV),
        snapshot_start_us=starts,
        snapshot_price=price,
        snapshot_popularity=popularity,
    )


def _truth(connection: duckdb.DuckDBPyConnection, requests: int) -> tuple[Int64, Int32, Int64]:
    """Eligible items that each request bought, each once, and their money."""
    truth = connection.execute(
        "SELECT request, row, micros FROM truth ORDER BY request, row"
    ).fetchnumpy()
    starts = np.searchsorted(truth["request"], np.arange(requests + 1)).astype(np.int64)
    return starts, truth["row"].astype(np.int32), truth["micros"]


def _history_ends(
    purchases: Mapping[str, NDArray[Any]], requests: Mapping[str, NDArray[Any]]
) -> Int64:
    """For each request, one past the last purchase of its user strictly before it."""
    times = np.unique(purchases["ts_us"])
    span = len(times) + 1
    known = purchases["user_row"] * span + np.searchsorted(times, purchases["ts_us"])
    asked = requests["user_row"] * span + np.searchsorted(times, requests["ts_us"])
    return np.searchsorted(known, asked).astype(np.int64)


def _snapshots(
    connection: duckdb.DuckDBPyConnection, test_start: int
) -> tuple[Int64, Float32, Float32]:
    """What was known of each item at the start of every week, the last one at the test's start."""
    (first,) = one(connection, "SELECT min(ts_us) FROM purchases")
    (items,) = one(connection, "SELECT count(*) FROM item_rows")
    step = SNAPSHOT_DAYS * US_PER_DAY
    starts = np.arange(test_start, first - step, -step, dtype=np.int64)[::-1]
    lines = connection.execute(
        f"SELECT row, ts_us, price_micros FROM purchases "
        f"WHERE row != {OOV} AND ts_us < {test_start} ORDER BY ts_us, row, price_micros"
    ).fetchnumpy()
    price = np.zeros((len(starts), items + 1), dtype=np.float32)
    popularity = np.zeros_like(price)
    ends = np.searchsorted(lines["ts_us"], starts)
    windows = np.searchsorted(lines["ts_us"], starts - POPULARITY_DAYS * US_PER_DAY)
    known = np.zeros(items + 1, dtype=np.float32)
    begin = 0
    for snapshot, (end, window) in enumerate(zip(ends, windows, strict=True)):
        known[lines["row"][begin:end]] = lines["price_micros"][begin:end] / 1e6
        price[snapshot] = known
        popularity[snapshot] = np.bincount(lines["row"][window:end], minlength=items + 1)
        begin = end
    return starts, price, popularity


def item_table(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> pa.Table:
    """Eligible items in the order of their rows, with what is known of them."""
    columns = "".join(
        f", {Columns.feature(i)} AS {identifier(name)}"
        for i, name in enumerate(config.items.features)
    )
    return connection.sql(
        f"SELECT item_id, available{columns} FROM item_rows JOIN items USING (item_id) ORDER BY row"
    ).to_arrow_table()


def one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    """The one row of a query."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
