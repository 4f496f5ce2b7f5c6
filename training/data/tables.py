"""The three source tables, checked and brought to one shape in DuckDB."""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from training.data.source import DatasetConfig, DatasetError

_MONEY = "BETWEEN 0 AND 1e9"


class Columns:
    """Names of the columns that stand for a user's or item's features and a request's context."""

    @staticmethod
    def feature(position: int) -> str:
        """Column of the feature at `position` of its section."""
        return f"f{position}"

    @staticmethod
    def context(position: int) -> str:
        """Column of the context field at `position`."""
        return f"c{position}"


def identifier(name: str) -> str:
    """SQL of a column name, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """SQL of a string, whatever characters it has."""
    return "'" + text.replace("'", "''") + "'"


def open_tables(connection: duckdb.DuckDBPyConnection, config: DatasetConfig, folder: Path) -> None:
    """Create the tables `users`, `items` and `interactions` from the files of a dataset.

    Raises:
        DatasetError: a file, column or value breaks a rule.
    """
    # A time without a zone is UTC, wherever this machine stands.
    connection.execute("SET TimeZone = 'UTC'")
    users, items = config.users, config.items
    _open_entities(connection, "users", folder / users.file, users.id, users.features)
    _open_entities(
        connection, "items", folder / items.file, items.id, items.features, items.available
    )
    _open_interactions(connection, config, folder / config.interactions.file)
    connection.execute(
        "CREATE TABLE users AS SELECT id AS user_id, * EXCLUDE (id, available), "
        "row_number() OVER (ORDER BY id) - 1 AS user_row FROM users_source"
    )
    connection.execute(
        "CREATE TABLE items AS SELECT id AS item_id, * EXCLUDE (id) FROM items_source"
    )
    _join_interactions(connection, len(config.interactions.context))


def _open_entities(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    key: str,
    features: tuple[str, ...],
    available: str | None = None,
) -> None:
    _check_columns(connection, path, [key, *features, *([available] if available else [])])
    flag = f"TRY_CAST({identifier(available)} AS BOOLEAN)" if available else "true"
    named = "".join(
        f", {identifier(name)}::VARCHAR AS {Columns.feature(i)}" for i, name in enumerate(features)
    )
    source = f"{table}_source"
    connection.execute(
        f"CREATE TEMP TABLE {source} AS "
        f"SELECT {identifier(key)}::VARCHAR AS id, {flag} AS available{named} "
        "FROM read_parquet(?)",
        [str(path)],
    )
    repeated = f"id IN (SELECT id FROM {source} GROUP BY id HAVING count(*) > 1)"
    for condition, column, rule, remedy in (
        ("id IS NULL", key, "an id", "fill or remove the row"),
        (repeated, key, "unique", "keep one row an id"),
        ("available IS NULL", available or "", "true or false", "mend the row"),
    ):
        _forbid(connection, path, source, condition, column, rule, remedy)


def _open_interactions(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, path: Path
) -> None:
    section = config.interactions
    price = section.price or section.revenue
    wanted = [section.user, section.item, section.time, section.revenue, price]
    _check_columns(connection, path, [*wanted, *section.context])
    user, item, time, revenue, price_sql = (identifier(name) for name in wanted)
    context = "".join(
        f", {identifier(name)}::VARCHAR AS {Columns.context(i)}"
        for i, name in enumerate(section.context)
    )
    connection.execute(
        f"""
        CREATE TEMP TABLE interactions_source AS
        SELECT {user}::VARCHAR AS user_id, {item}::VARCHAR AS item_id,
               epoch_us(TRY_CAST({time} AS TIMESTAMPTZ)) AS ts_us,
               TRY_CAST({revenue} AS DOUBLE) AS revenue,
               TRY_CAST({price_sql} AS DOUBLE) AS price{context}
        FROM read_parquet(?)
        """,
        [str(path)],
    )
    for condition, column, rule, remedy in (
        (
            "user_id IS NULL OR user_id NOT IN (SELECT id FROM users_source)",
            section.user,
            f"in {config.users.id} of {config.users.file}",
            "add it there or remove the row",
        ),
        (
            "item_id IS NULL OR item_id NOT IN (SELECT id FROM items_source)",
            section.item,
            f"in {config.items.id} of {config.items.file}",
            "add it there or remove the row",
        ),
        ("ts_us IS NULL", section.time, "a time", "mend the row"),
        (
            f"revenue IS NULL OR NOT revenue {_MONEY}",
            section.revenue,
            "a number from 0 to 1e9",
            "mend the row",
        ),
        (
            f"price IS NULL OR NOT price {_MONEY}",
            price,
            "a number from 0 to 1e9",
            "mend the row",
        ),
    ):
        _forbid(connection, path, "interactions_source", condition, column, rule, remedy)


def _join_interactions(connection: duckdb.DuckDBPyConnection, contexts: int) -> None:
    """One interaction for each user, time and item: a store's history knows no lines of a bill."""
    least = "".join(f", min({Columns.context(i)}) AS {Columns.context(i)}" for i in range(contexts))
    connection.execute(
        f"""
        CREATE TABLE interactions AS
        SELECT user_row, user_id, item_id, ts_us{least},
               sum(round(revenue * 1e6)::BIGINT)::BIGINT AS revenue_micros,
               max(round(price * 1e6)::BIGINT) AS price_micros
        FROM interactions_source JOIN users USING (user_id)
        GROUP BY user_row, user_id, item_id, ts_us
        """
    )


def _check_columns(
    connection: duckdb.DuckDBPyConnection, path: Path, wanted: Iterable[str]
) -> None:
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; name the file relative to dataset.toml")
    try:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)])
        found = [row[0] for row in described.fetchall()]
    except duckdb.Error as error:
        raise DatasetError(f"{path} is not a readable Parquet file; write it again") from error
    for name in wanted:
        if name not in found:
            raise DatasetError(f"{path} has no column {name!r}; its columns are {found}")


def _forbid(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    condition: str,
    column: str,
    rule: str,
    remedy: str,
) -> None:
    """Raise for the first row that meets `condition`, with the value that its file holds."""
    row = connection.execute(
        f"SELECT rowid FROM {table} WHERE {condition} ORDER BY rowid LIMIT 1"
    ).fetchone()
    if row is None:
        return
    held = connection.execute(
        f"SELECT {identifier(column)}::VARCHAR FROM read_parquet(?, file_row_number = true) "
        "WHERE file_row_number = ?",
        [str(path), row[0]],
    ).fetchone()
    assert held is not None
    value = "null" if held[0] is None else repr(held[0])
    raise DatasetError(
        f"{path}: row {row[0] + 1}: {column} is {value} but must be {rule}; {remedy}"
    )
