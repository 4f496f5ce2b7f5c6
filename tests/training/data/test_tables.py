"""Every rule of the source tables, broken: the message names file, row, column and remedy."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.tables import Line, Source, corner_shop, day
from training.data.source import DatasetError, read_dataset_config
from training.data.tables import identifier, literal, open_tables


def _open(source: Source, folder: Path) -> duckdb.DuckDBPyConnection:
    config = source.write(folder)
    connection = duckdb.connect()
    open_tables(connection, read_dataset_config(config), folder)
    return connection


def _message(source: Source, folder: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        _open(source, folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}/")
    return message.removeprefix(f"{folder}/")


def _with_line(line: Line) -> Source:
    """A corner shop whose third interaction is `line`."""
    source = corner_shop()
    source.lines.insert(2, line)
    return source


def _with_column(name: str, bad: object) -> Source:
    """A corner shop in which a column of text holds `bad` in the third row."""
    source = corner_shop()
    good = "2024-01-05 10:00:00" if name == "when" else "1.00"
    source.interactions[name] = [good] * len(source.lines)
    source.interactions[name][2] = bad
    return source


@pytest.mark.parametrize("text", ["plain", "it's", 'so "quoted"', "'\"'", "ä; DROP TABLE users"])
def test_any_text_is_quoted(text: str) -> None:
    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT {literal(text)} AS {identifier(text)}")
        assert relation.columns == [text]
        assert relation.fetchall() == [(text,)]


def test_lines_of_one_item_at_one_time_are_one_interaction(tmp_path: Path) -> None:
    connection = _open(corner_shop(), tmp_path)
    rows = connection.execute(
        "SELECT item_id, revenue_micros, price_micros, c0 FROM interactions "
        f"WHERE user_id = 'u1' AND ts_us = {day(0)} ORDER BY item_id"
    ).fetchall()
    assert rows == [("a", 300_000, 200_000, "s1"), ("b", 2_000_000, 2_000_000, "s1")]


def test_price_is_the_revenue_where_no_column_is_named(tmp_path: Path) -> None:
    source = corner_shop()
    source.toml = source.toml.replace('price = "price"\n', "")
    connection = _open(source, tmp_path)
    assert connection.execute(
        f"SELECT price_micros FROM interactions WHERE ts_us = {day(23)} AND item_id = 'a'"
    ).fetchall() == [(19_990_000,)]


def test_all_items_are_available_where_no_column_is_named(tmp_path: Path) -> None:
    source = corner_shop()
    source.toml = source.toml.replace('available = "in stock"\n', "")
    connection = _open(source, tmp_path)
    assert connection.execute("SELECT DISTINCT available FROM items").fetchall() == [(True,)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_times_do_not_depend_on_this_machines_zone(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    east = timezone(timedelta(hours=2))
    lost_in_new_york = datetime(2024, 3, 10, 2, 30)
    for name, times in {
        "naive": [lost_in_new_york],
        "aware": [datetime(2024, 3, 10, 4, 30, tzinfo=east)],
        "text": ["2024-03-10 02:30:00"],
        "zoned": ["2024-03-10 04:30:00+02:00"],
    }.items():
        source = Source([Line("u1", "a", day(0))])
        source.interactions["when"] = times
        connection = _open(source, tmp_path / name)
        assert connection.execute("SELECT ts_us FROM interactions").fetchall() == [
            (1_710_037_800_000_000,)
        ], name


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        config = corner_shop().write(tmp_path)
        (tmp_path / "items.parquet").unlink()
        with pytest.raises(DatasetError) as caught:
            open_tables(duckdb.connect(), read_dataset_config(config), tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}/items.parquet does not exist; name the file relative to dataset.toml"
        )

    def test_not_parquet(self, tmp_path: Path) -> None:
        config = corner_shop().write(tmp_path)
        (tmp_path / "items.parquet").write_text("sku,kind\n")
        with pytest.raises(DatasetError) as caught:
            open_tables(duckdb.connect(), read_dataset_config(config), tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}/items.parquet is not a readable Parquet file; write it again"
        )

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (
                '"in stock"',
                '"In Stock"',
                "items.parquet has no column 'In Stock'; its columns are "
                """['sku', 'kind', "brand's", 'in stock']""",
            ),
            (
                'id = "who\'s"',
                'id = "id"',
                "it's users.parquet has no column 'id'; its columns are "
                """['home "town"', "who's"]""",
            ),
            (
                '["store"]',
                '["store", "till"]',
                "interactions.parquet has no column 'till'; its columns are "
                "['buyer', 'sku', 'store', 'paid', 'price', 'when']",
            ),
        ],
    )
    def test_missing_column(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        source = corner_shop()
        assert old in source.toml
        source.toml = source.toml.replace(old, new)
        assert _message(source, tmp_path) == message


class TestUsersAndItems:
    def test_null_id(self, tmp_path: Path) -> None:
        source = corner_shop()
        source.users["who's"][1] = None
        assert _message(source, tmp_path) == (
            "it's users.parquet: row 2: who's is null but must be an id; fill or remove the row"
        )

    def test_repeated_id(self, tmp_path: Path) -> None:
        source = corner_shop()
        source.items["sku"][3] = "b"
        assert _message(source, tmp_path) == (
            "items.parquet: row 2: sku is 'b' but must be unique; keep one row an id"
        )

    @pytest.mark.parametrize(("value", "shown"), [("maybe", "'maybe'"), (None, "null")])
    def test_availability_must_be_a_boolean(
        self, tmp_path: Path, value: str | None, shown: str
    ) -> None:
        source = corner_shop()
        source.items["in stock"] = ["true", "false", value, "1"]
        assert _message(source, tmp_path) == (
            f"items.parquet: row 3: in stock is {shown} but must be true or false; mend the row"
        )

    def test_numbers_may_be_ids_and_features(self, tmp_path: Path) -> None:
        source = Source([Line("u1", "a", day(0))])
        source.users = {'home "town"': [1.5], "who's": [7]}
        source.interactions["buyer"] = [7]
        connection = _open(source, tmp_path)
        assert connection.execute("SELECT user_id, f0 FROM users").fetchall() == [("7", "1.5")]


class TestInteractions:
    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (
                Line(None, "a", day(1)),
                "buyer is null but must be in who's of it's users.parquet; "
                "add it there or remove the row",
            ),
            (
                Line("u9", "a", day(1)),
                "buyer is 'u9' but must be in who's of it's users.parquet; "
                "add it there or remove the row",
            ),
            (
                Line("u1", None, day(1)),
                "sku is null but must be in sku of items.parquet; add it there or remove the row",
            ),
            (
                Line("u1", "q", day(1)),
                "sku is 'q' but must be in sku of items.parquet; add it there or remove the row",
            ),
            (
                Line("u1", "a", day(1), paid="-0.01"),
                "paid is '-0.01' but must be a number from 0 to 1e9; mend the row",
            ),
            (
                Line("u1", "a", day(1), price="1000000000.01"),
                "price is '1000000000.01' but must be a number from 0 to 1e9; mend the row",
            ),
        ],
    )
    def test_invalid_line(self, tmp_path: Path, line: Line, message: str) -> None:
        assert _message(_with_line(line), tmp_path) == f"interactions.parquet: row 3: {message}"

    @pytest.mark.parametrize(
        ("column", "bad", "message"),
        [
            ("paid", "dear", "paid is 'dear' but must be a number from 0 to 1e9; mend the row"),
            ("paid", None, "paid is null but must be a number from 0 to 1e9; mend the row"),
            ("price", "NaN", "price is 'NaN' but must be a number from 0 to 1e9; mend the row"),
            ("price", "inf", "price is 'inf' but must be a number from 0 to 1e9; mend the row"),
            ("when", "today-ish", "when is 'today-ish' but must be a time; mend the row"),
            ("when", None, "when is null but must be a time; mend the row"),
            ("when", "infinity", "when is 'infinity' but must be a time; mend the row"),
        ],
    )
    def test_invalid_value(self, tmp_path: Path, column: str, bad: object, message: str) -> None:
        source = _with_column(column, bad)
        assert _message(source, tmp_path) == f"interactions.parquet: row 3: {message}"

    def test_a_number_is_no_time(self, tmp_path: Path) -> None:
        source = corner_shop()
        source.interactions["when"] = list(range(len(source.lines)))
        assert _message(source, tmp_path) == (
            "interactions.parquet: row 1: when is '0' but must be a time; mend the row"
        )

    def test_the_first_broken_row_of_a_big_table_is_named(self, tmp_path: Path) -> None:
        source = Source([Line("u1", "a", day(n % 30, us=n)) for n in range(5_000)])
        config = source.write(tmp_path)
        path = tmp_path / "interactions.parquet"
        table = pq.read_table(path)
        stores = pa.array([1.0] * 4_321 + [-1.0, -2.0] + [1.0] * 677)
        table = table.set_column(table.column_names.index("paid"), "paid", stores)
        pq.write_table(table, path, row_group_size=1_000)
        with pytest.raises(DatasetError, match=r"row 4322: paid is '-1\.0' but must be a number"):
            open_tables(duckdb.connect(), read_dataset_config(config), tmp_path)
