"""Categorical fields: their vocabularies, fitted on the training period, and their indices."""

from collections.abc import Callable, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.dataset import Int32
from training.data.source import DatasetConfig
from training.data.tables import Columns
from training.features import CategoricalField

MAX_VOCABULARY = 100_000

Fields = tuple[CategoricalField, ...]


def user_fields(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, before_us: int
) -> Fields:
    """Fields of users, from interactions before a time."""
    joined = "JOIN users USING (user_row)"
    return _fields(connection, config.users.features, Columns.feature, joined, before_us)


def item_fields(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, before_us: int
) -> Fields:
    """Fields of items, from interactions before a time."""
    joined = "JOIN items USING (item_id)"
    return _fields(connection, config.items.features, Columns.feature, joined, before_us)


def context_fields(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, before_us: int
) -> Fields:
    """Fields of the request's context, from interactions before a time."""
    return _fields(connection, config.interactions.context, Columns.context, "", before_us)


def _fields(
    connection: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    column: Callable[[int], str],
    joined: str,
    before_us: int,
) -> Fields:
    """Values that interactions with eligible items have, the most frequent first."""
    fields = []
    for position, name in enumerate(names):
        values = connection.execute(
            f"""
            SELECT {column(position)} AS value
            FROM interactions {joined} JOIN item_rows USING (item_id)
            WHERE ts_us < {before_us} AND value IS NOT NULL
            GROUP BY value ORDER BY count(*) DESC, value LIMIT {MAX_VOCABULARY}
            """
        ).fetchall()
        fields.append(CategoricalField(name=name, vocabulary=tuple(row[0] for row in values)))
    return tuple(fields)


def encode(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    fields: Fields,
    column: Callable[[int], str],
) -> Int32:
    """Indices of every row of an ordered relation, [rows, fields]."""
    names = ", ".join(column(i) for i in range(len(fields))) or "0"
    table = connection.sql(f"SELECT {names} FROM {relation}").to_arrow_table()
    encoded = np.zeros((table.num_rows, len(fields)), dtype=np.int32)
    for i, field in enumerate(fields):
        values = table.column(i).combine_chunks()
        indices = pc.index_in(values, pa.array(field.vocabulary, values.type))
        encoded[:, i] = indices.fill_null(-1).to_numpy() + 1
    return encoded
