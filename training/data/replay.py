"""The test period as trips to replay over HTTP, and every user's state at its start."""

from pathlib import Path

import duckdb

from training.data.source import DatasetConfig
from training.data.tables import Columns

USERS = "users.parquet"
TRIPS = "trips.parquet"


def write_replay(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, test_start: int, folder: Path
) -> None:
    """Write `replay/users.parquet` and `replay/trips.parquet` of a prepared dataset.

    A trip holds everything that was bought, items that cannot be recommended included: they are
    part of the user's history afterwards.
    """
    replay = folder / "replay"
    features = _json(config.users.features, Columns.feature)
    connection.execute(
        f"""
        COPY (
            SELECT users.user_id, {features} AS features_json,
                   coalesce(history_item_ids, []) AS history_item_ids,
                   coalesce(history_ts_us, []) AS history_ts_us
            FROM users LEFT JOIN (
                SELECT user_row, list(item_id ORDER BY ts_us, item_id) AS history_item_ids,
                       list(ts_us ORDER BY ts_us, item_id) AS history_ts_us
                FROM interactions WHERE ts_us < {test_start} GROUP BY user_row
            ) USING (user_row)
            ORDER BY users.user_id
        ) TO '{replay / USERS}'
        """
    )
    context_columns = "".join(
        f", min({Columns.context(i)}) AS {Columns.context(i)}"
        for i in range(len(config.interactions.context))
    )
    context = _json(config.interactions.context, Columns.context)
    connection.execute(
        f"""
        COPY (
            WITH lines AS (
                SELECT user_row, ts_us, item_id, sum(revenue_micros)::BIGINT AS micros
                       {context_columns}
                FROM interactions WHERE ts_us >= {test_start} GROUP BY ALL),
            trips AS (
                SELECT user_row, ts_us, list(item_id ORDER BY item_id) AS item_ids,
                       list(micros ORDER BY item_id) AS revenue_micros {context_columns}
                FROM lines GROUP BY user_row, ts_us)
            SELECT user_id || '-' || ts_us AS trip_id, user_id, ts_us, {context} AS context_json,
                   item_ids, revenue_micros, '{config.currency}' AS currency
            FROM trips JOIN users USING (user_row) ORDER BY ts_us, user_id
        ) TO '{replay / TRIPS}'
        """
    )


def _json(names: tuple[str, ...], column: object) -> str:
    """SQL of a JSON object of the non-null values under their own names."""
    assert callable(column)
    pairs = ", ".join(f"'{name}', {column(i)}" for i, name in enumerate(names))
    return f"json_merge_patch('{{}}', json_object({pairs}))::VARCHAR"
