"""From three tables to a prepared dataset: validate, filter, split by time, index.

The one way by which purchases reach training, whoever's they are. Everything a request knows is
computed from interactions strictly before its time.
"""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.dataset import (
    ITEMS,
    REPLAY,
    Arrays,
    DatasetMeta,
    Float32,
    Int32,
    Int64,
    PreparedDataset,
    write_prepared,
)
from training.data.fields import context_fields, encode, item_fields, user_fields
from training.data.replay import write_replay
from training.data.source import DatasetConfig, DatasetError, read_dataset_config
from training.data.tables import Columns, identifier, open_tables
from training.features import OOV, US_PER_DAY

SNAPSHOT_DAYS = 7
POPULARITY_DAYS = 28

Step = Callable[[str], None]


def prepare(config_path: Path, out: Path, step: Step = lambda _: None) -> PreparedDataset:
    """Prepare a dataset for training and replay.

    Args:
        config_path: `dataset.toml`; its files are relative to its folder.
        out: folder to write, replaced whole if it holds a prepared dataset.
        step: told in plain words what begins.

    Raises:
        DatasetError: a table, column or value breaks a rule.
    """
    config = read_dataset_config(config_path)
    with duckdb.connect() as connection:
        step("Checking the tables")
        open_tables(connection, config, config_path.parent)
        step("Splitting by time and indexing")
        test_start, validation_start = _split(connection, config)
        _index_items(connection, config, validation_start)
        _index_requests(connection, config)
        meta = DatasetMeta(
            name=config.name,
            currency=config.currency,
            validation_start_us=validation_start,
            test_start_us=test_start,
            user_fields=user_fields(connection, config, validation_start),
            context_fields=context_fields(connection, config, validation_start),
            item_fields=item_fields(connection, config, validation_start),
        )
        arrays = _arrays(connection, meta)
        items = _item_table(connection, config)
        step("Writing the replay of the test period")

        def write_rest(folder: Path) -> None:
            pq.write_table(items, folder / ITEMS)
            write_replay(connection, config, test_start, folder / REPLAY)

        return write_prepared(out, meta, arrays, write_rest)


def _split(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> tuple[int, int]:
    """Starts of the test and the validation period."""
    (count,) = _one(connection, "SELECT count(*) FROM interactions")
    if count == 0:
        raise DatasetError(f"{config.interactions.file} has no rows; bring some interactions")
    first, last = _one(connection, "SELECT min(ts_us), max(ts_us) FROM interactions")
    test_start = last - config.split.test_days * US_PER_DAY
    validation_start = test_start - config.split.validation_days * US_PER_DAY
    if validation_start <= first:
        raise DatasetError(
            f"{config.interactions.file}: {(last - first) / US_PER_DAY:.1f} days of interactions "
            f"leave none for training after {config.split.test_days} test and "
            f"{config.split.validation_days} validation days; lower them under [split]"
        )
    return test_start, validation_start


def _index_items(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, validation_start: int
) -> None:
    """Give every eligible item its row, most often bought first."""
    connection.execute(
        f"""
        CREATE TABLE item_rows AS
        SELECT item_id, row_number() OVER (ORDER BY count(*) DESC, item_id) AS row
        FROM interactions WHERE ts_us < {validation_start}
        GROUP BY item_id HAVING count(*) >= {config.min_item_count}
        """
    )
    (eligible,) = _one(connection, "SELECT count(*) FROM item_rows")
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


def _index_requests(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> None:
    """Number the requests: what a user bought at one time, at least one eligible item."""
    contexts = range(len(config.interactions.context))
    least = "".join(f", min({Columns.context(i)}) AS {Columns.context(i)}" for i in contexts)
    connection.execute(
        f"""
        CREATE TABLE requests AS
        SELECT row_number() OVER (ORDER BY user_row, ts_us) - 1 AS request, * FROM (
            SELECT user_row, ts_us{least}
            FROM interactions LEFT JOIN item_rows USING (item_id)
            GROUP BY user_row, ts_us HAVING count(row) > 0)
        """
    )


def _arrays(connection: duckdb.DuckDBPyConnection, meta: DatasetMeta) -> Arrays:
    purchases = connection.execute("SELECT user_row, row, ts_us FROM purchases").fetchnumpy()
    requests = connection.execute(
        "SELECT user_row, ts_us FROM requests ORDER BY request"
    ).fetchnumpy()
    (users,) = _one(connection, "SELECT count(*) FROM users")
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
        history_end=_history_ends(connection),
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
        f"""
        SELECT request, row, revenue_micros AS micros
        FROM purchases JOIN requests USING (user_row, ts_us) WHERE row != {OOV}
        ORDER BY request, row
        """
    ).fetchnumpy()
    starts = np.searchsorted(truth["request"], np.arange(requests + 1)).astype(np.int64)
    return starts, truth["row"].astype(np.int32), truth["micros"]


def _history_ends(connection: duckdb.DuckDBPyConnection) -> Int64:
    """For each request, one past the last purchase of its user strictly before it."""
    ends = connection.execute(
        """
        WITH numbered AS (
            SELECT user_row, ts_us, row_number() OVER (ORDER BY user_row, ts_us) - 1 AS position
            FROM purchases),
        trips AS (SELECT user_row, ts_us, min(position) AS first FROM numbered GROUP BY ALL)
        SELECT first FROM requests JOIN trips USING (user_row, ts_us) ORDER BY request
        """
    ).fetchnumpy()["first"]
    return ends.astype(np.int64)


def _snapshots(
    connection: duckdb.DuckDBPyConnection, test_start: int
) -> tuple[Int64, Float32, Float32]:
    """What was known of each item at the start of every week, the last one at the test's start."""
    (first,) = _one(connection, "SELECT min(ts_us) FROM purchases")
    (items,) = _one(connection, "SELECT count(*) FROM item_rows")
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


def _item_table(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> pa.Table:
    columns = "".join(
        f", {Columns.feature(i)} AS {identifier(name)}"
        for i, name in enumerate(config.items.features)
    )
    return connection.sql(
        f"SELECT item_id, available{columns} FROM item_rows JOIN items USING (item_id) ORDER BY row"
    ).to_arrow_table()


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
