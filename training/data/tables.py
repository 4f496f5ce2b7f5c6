"""The three source tables, checked and brought to one shape in DuckDB."""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from training.data.source import DatasetConfig, DatasetError


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


def open_tables(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, folder: Path
) -> None:
    """Create the tables `users`, `items` and `interactions` from the files of a dataset.

    Raises:
        DatasetError: a file, column or value breaks a rule.
    """
    _open_entities(
        connection, "users", folder / config.users.file, config.users.id, config.users.features
    )
    connection.execute(
        "CREATE TABLE users AS SELECT id AS user_id, * EXCLUDE (id), "
        "row_number() OVER (ORDER BY id) - 1 AS user_row FROM users_source"
    )
    items = config.items
    _open_entities(
        connection, "items", folder / items.file, items.id, items.features, items.available
    )
    connection.execute("CREATE TABLE items AS SELECT id AS item_id, * EXCLUDE (id) FROM items_source")
    _open_interactions(connection, config, folder / config.interactions.file)


def _open_entities(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    path: Path,
    key: str,
    features: tuple[str, ...],
    available: str | None = None,
) -> None:
    wanted = [key, *features, *([available] if available else [])]
    _check_columns(connection, path, wanted)
    columns = [f'"{key}"::VARCHAR AS id']
    columns += [f'"{name}"::VARCHAR AS {Columns.feature(i)}' for i, name in enumerate(features)]
    if table == "items":
        flag = f'coalesce("{available}"::BOOLEAN, false)' if available else "true"
        columns.append(f"{flag} AS available")
    connection.execute(
        f"CREATE TEMP TABLE {table}_source AS SELECT {', '.join(columns)} FROM read_parquet(?)",
        [str(path)],
    )
    source = f"{table}_source"
    _forbid(connection, path, source, "id IS NULL", f"{key} is null", "remove or fill the row")
    _forbid(
        connection,
        path,
        source,
        "id IN (SELECT id FROM SOURCE GROUP BY id HAVING count(*) > 1)".replace("SOURCE", source),
        f"{key} occurs more than once",
        "keep one row an id",
        show="id",
    )


def _open_interactions(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, path: Path
) -> None:
    section = config.interactions
    wanted = [section.user, section.item, section.time, section.revenue, *section.context]
    _check_columns(connection, path, [*wanted, *([section.price] if section.price else [])])
    price = section.price or section.revenue
    context = "".join(
        f', "{name}"::VARCHAR AS {Columns.context(i)}' for i, name in enumerate(section.context)
    )
    try:
        connection.execute(
            f"""
            CREATE TEMP TABLE interactions_source AS
            SELECT "{section.user}"::VARCHAR AS user_id, "{section.item}"::VARCHAR AS item_id,
                   epoch_us("{section.time}"::TIMESTAMPTZ::TIMESTAMP) AS ts_us,
                   "{section.revenue}"::DOUBLE AS revenue, "{price}"::DOUBLE AS price{context}
            FROM read_parquet(?)
            """,
            [str(path)],
        )
    except duckdb.ConversionException as error:
        raise DatasetError(f"{path}: {str(error).splitlines()[0]}") from error
    for condition, fault, show in (
        ("user_id IS NULL", f"{section.user} is null", ""),
        ("item_id IS NULL", f"{section.item} is null", ""),
        ("ts_us IS NULL", f"{section.time} is null", ""),
        (
            "revenue IS NULL OR NOT revenue BETWEEN 0 AND 1e9",
            f"{section.revenue} must be a number from 0 to 1e9",
            "revenue",
        ),
        (
            "price IS NULL OR NOT price BETWEEN 0 AND 1e9",
            f"{price} must be a number from 0 to 1e9",
            "price",
        ),
        (
            "user_id NOT IN (SELECT user_id FROM users)",
            f"{section.user} is not in {config.users.file}",
            "user_id",
        ),
        (
            "item_id NOT IN (SELECT item_id FROM items)",
            f"{section.item} is not in {config.items.file}",
            "item_id",
        ),
    ):
        _forbid(connection, path, "interactions_source", condition, fault, "mend the row", show)
    connection.execute(
        """
        CREATE TABLE interactions AS
        SELECT user_row, interactions_source.* EXCLUDE (revenue, price),
               round(revenue * 1e6)::BIGINT AS revenue_micros,
               round(price * 1e6)::BIGINT AS price_micros
        FROM interactions_source JOIN users USING (user_id)
        """
    )


def _check_columns(
    connection: duckdb.DuckDBPyConnection, path: Path, wanted: Iterable[str]
) -> None:
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; name the file relative to dataset.toml")
    try:
        found = [
            row[0]
            for row in connection.execute(
                "DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]
            ).fetchall()
        ]
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
    fault: str,
    remedy: str,
    show: str = "",
) -> None:
    """Raise for the first row that meets `condition`."""
    row = connection.execute(
        f"SELECT rowid + 1{', ' + show if show else ''} FROM {table} WHERE {condition} "
        "ORDER BY rowid LIMIT 1"
    ).fetchone()
    if row is not None:
        value = f" (value {row[1]!r})" if show else ""
        raise DatasetError(f"{path}: row {row[0]}: {fault}{value}; {remedy}")
