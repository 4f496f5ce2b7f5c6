"""From three tables to a prepared dataset: validate, filter, split by time, index.

The one way by which purchases reach training, whoever's they are. Everything a request knows is
computed from interactions strictly before its time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.data.dataset import ITEMS, Arrays, DatasetMeta, PreparedDataset, write_prepared
from training.data.replay import write_replay
from training.data.source import DatasetConfig, DatasetError, read_dataset_config
from training.data.tables import Columns, open_tables
from training.features import OOV, US_PER_DAY, CategoricalField

SNAPSHOT_DAYS = 7
POPULARITY_DAYS = 28
MAX_VOCABULARY = 100_000

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
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
        arrays = _arrays(connection, config, validation_start, test_start)
        items = _item_table(connection, config)
        meta = DatasetMeta(
            name=config.name,
            currency=config.currency,
            validation_start_us=validation_start,
            test_start_us=test_start,
            user_fields=_vocabularies(connection, config.users.features, "users", validation_start),
            context_fields=_vocabularies(
                connection, config.interactions.context, "interactions", validation_start
            ),
            item_fields=_vocabularies(connection, config.items.features, "items", validation_start),
        )
        arrays = _encode_fields(connection, config, meta, arrays)
        step("Writing the replay of the test period")

        def write_rest(folder: Path) -> None:
            pq.write_table(items, folder / ITEMS)
            write_replay(connection, config, test_start, folder)

        return write_prepared(out, meta, arrays, write_rest)


def _split(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> tuple[int, int]:
    """Starts of the test and the validation period."""
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
        ORDER BY user_row, ts_us, interactions.item_id, revenue_micros
        """
    )


def _arrays(
    connection: duckdb.DuckDBPyConnection,
    config: DatasetConfig,
    validation_start: int,
    test_start: int,
) -> Arrays:
    context = "".join(
        f", min({Columns.context(i)}) AS {Columns.context(i)}"
        for i in range(len(config.interactions.context))
    )
    purchases = connection.execute("SELECT user_row, row, ts_us FROM purchases").fetchnumpy()
    connection.execute(
        f"""
        CREATE TABLE requests AS
        SELECT row_number() OVER (ORDER BY user_row, ts_us) - 1 AS request, * FROM (
            SELECT user_row, ts_us{context}
            FROM interactions JOIN item_rows USING (item_id) GROUP BY user_row, ts_us)
        """
    )
    requests = connection.execute(
        "SELECT user_row, ts_us FROM requests ORDER BY request"
    ).fetchnumpy()
    truth = connection.execute(
        f"""
        SELECT request, row, sum(revenue_micros)::BIGINT AS micros
        FROM purchases JOIN requests USING (user_row, ts_us) WHERE row != {OOV}
        GROUP BY request, row ORDER BY request, row
        """
    ).fetchnumpy()
    users = _one(connection, "SELECT count(*) FROM users")[0]
    user_starts = np.searchsorted(purchases["user_row"], np.arange(users + 1))
    history_end = _history_ends(connection)
    starts, price, popularity = _snapshots(connection, validation_start, test_start)
    return Arrays(
        purchase_rows=purchases["row"].astype(np.int32),
        purchase_ts_us=purchases["ts_us"],
        request_user=requests["user_row"].astype(np.int32),
        request_ts_us=requests["ts_us"],
        request_context=np.zeros((len(requests["ts_us"]), 0), dtype=np.int32),
        history_start=user_starts[requests["user_row"]].astype(np.int64),
        history_end=history_end,
        truth_starts=np.searchsorted(
            truth["request"], np.arange(len(requests["ts_us"]) + 1)
        ).astype(np.int64),
        truth_rows=truth["row"].astype(np.int32),
        truth_micros=truth["micros"],
        user_fields=np.zeros((users, 0), dtype=np.int32),
        item_fields=np.zeros((1, 0), dtype=np.int32),
        snapshot_start_us=starts,
        snapshot_price=price,
        snapshot_popularity=popularity,
    )


def _history_ends(connection: duckdb.DuckDBPyConnection) -> Int64:
    """For each request, one past the last purchase of its user strictly before it."""
    result = connection.execute(
        """
        WITH numbered AS (
            SELECT user_row, ts_us, row_number() OVER (ORDER BY user_row, ts_us) - 1 AS position
            FROM purchases),
        trips AS (SELECT user_row, ts_us, min(position) AS first FROM numbered GROUP BY ALL)
        SELECT first FROM requests JOIN trips USING (user_row, ts_us) ORDER BY request
        """
    ).fetchnumpy()
    return result["first"].astype(np.int64)


def _snapshots(
    connection: duckdb.DuckDBPyConnection, validation_start: int, test_start: int
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
        f', {Columns.feature(i)} AS "{name}"' for i, name in enumerate(config.items.features)
    )
    return connection.execute(
        f"SELECT item_id, available{columns} FROM item_rows JOIN items USING (item_id) ORDER BY row"
    ).to_arrow_table()


def _vocabularies(
    connection: duckdb.DuckDBPyConnection, names: Sequence[str], table: str, before_us: int
) -> tuple[CategoricalField, ...]:
    """Values of each column that the training period has, the most frequent first."""
    fields = []
    for position, name in enumerate(names):
        column = (
            Columns.context(position) if table == "interactions" else Columns.feature(position)
        )
        join = {"users": "JOIN users USING (user_row)", "items": "JOIN items USING (item_id)"}
        rows = connection.execute(
            f"""
            SELECT {column} FROM interactions {join.get(table, "")}
            JOIN item_rows USING (item_id)
            WHERE ts_us < {before_us} AND {column} IS NOT NULL
            GROUP BY ALL ORDER BY count(*) DESC, {column} LIMIT {MAX_VOCABULARY}
            """
        ).fetchall()
        fields.append(CategoricalField(name=name, vocabulary=tuple(row[0] for row in rows)))
    return tuple(fields)


def _encode_fields(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, meta: DatasetMeta, arrays: Arrays
) -> Arrays:
    """Fill in the field indices of users, requests and items."""
    users = _encode(connection, "users ORDER BY user_row", meta.user_fields, Columns.feature)
    context = _encode(connection, "requests ORDER BY request", meta.context_fields, Columns.context)
    items = _encode(
        connection,
        "item_rows JOIN items USING (item_id) ORDER BY row",
        meta.item_fields,
        Columns.feature,
    )
    unknown = np.full((1, items.shape[1]), OOV, dtype=np.int32)
    return arrays._replace(
        user_fields=users,
        request_context=context,
        item_fields=np.concatenate([unknown, items]),
    )


def _encode(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    fields: Sequence[CategoricalField],
    column: Callable[[int], str],
) -> NDArray[np.int32]:
    names = ", ".join(column(i) for i in range(len(fields))) or "0"
    table = connection.execute(f"SELECT {names} FROM {relation}").to_arrow_table()
    encoded = np.zeros((table.num_rows, len(fields)), dtype=np.int32)
    for i, field in enumerate(fields):
        values = table.column(i).combine_chunks()
        indices = pa.compute.index_in(values, pa.array(field.vocabulary, values.type))
        encoded[:, i] = indices.fill_null(-1).to_numpy() + 1
    return encoded


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
