"""The test period as trips to replay over HTTP, and every user's state at its start."""

from collections.abc import Callable
from pathlib import Path

import duckdb

from training.data.source import DatasetConfig
from training.data.tables import Columns, literal

USERS = "users.parquet"
TRIPS = "trips.parquet"


def write_replay(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, test_start: int, folder: Path
) -> None:
    """Write the users' state at `test_start` and the trips after it into a folder.

    A trip holds everything that was bought, items that cannot be recommended included: they are
    part of the user's history afterwards.
    """
    _users(connection, config, test_start).write_parquet(str(folder / USERS))
    _trips(connection, config, test_start).write_parquet(str(folder / TRIPS))


def _users(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, test_start: int
) -> duckdb.DuckDBPyRelation:
    features = _json(config.users.features, Columns.feature)
    return connection.sql(
        f"""
        SELECT users.user_id, {features} AS features_json,
               coalesce(history_item_ids, []) AS history_item_ids,
               coalesce(history_ts_us, []) AS history_ts_us
        FROM users LEFT JOIN (
            SELECT user_row, list(item_id ORDER BY ts_us, item_id) AS history_item_ids,
                   list(ts_us ORDER BY ts_us, item_id) AS history_ts_us
            FROM interactions WHERE ts_us < {test_start} GROUP BY user_row
        ) USING (user_row)
        ORDER BY users.user_id
        """
    )


def _trips(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, test_start: int
) -> duckdb.DuckDBPyRelation:
    context = _json(config.interactions.context, Columns.context)
    contexts = range(len(config.interactions.context))
    least = "".join(f", min({Columns.context(i)}) AS {Columns.context(i)}" for i in contexts)
    return connection.sql(
        f"""
        WITH trips AS (
            SELECT user_row, ts_us, list(item_id ORDER BY item_id) AS item_ids,
                   list(revenue_micros ORDER BY item_id) AS revenue_micros{least}
            FROM interactions WHERE ts_us >= {test_start} GROUP BY user_row, ts_us)
        SELECT user_id || '-' || ts_us AS trip_id, user_id, ts_us, {context} AS context_json,
               item_ids, revenue_micros, {literal(config.currency)} AS currency
        FROM trips JOIN users USING (user_row) ORDER BY ts_us, user_id
        """
    )


def _json(names: tuple[str, ...], column: Callable[[int], str]) -> str:
    """SQL of a JSON object of the non-null values under their own names."""
    pairs = ", ".join(f"{literal(name)}, {column(i)}" for i, name in enumerate(names))
    return f"json_merge_patch('{{}}', json_object({pairs}))::VARCHAR"
