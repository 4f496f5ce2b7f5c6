"""The real package: what its tables hold once they are the tables of any shop."""

from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from training.data.complete_journey import PACKAGE, write_tables
from training.data.dataset import PreparedDataset, Split
from training.data.replay import TRIPS
from training.data.transactions import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_tables(tmp_path_factory.mktemp("journey") / "the shop's")
    return config.parent


@pytest.fixture(scope="module")
def prepared(folder: Path) -> PreparedDataset:
    return prepare(folder / "dataset.toml", folder / "prepared")


def _source(table: str) -> str:
    return str(files(PACKAGE) / "data" / f"{table}.parquet")


def _row(query: str, *paths: str | Path) -> tuple[Any, ...]:
    with duckdb.connect() as connection:
        (row,) = connection.execute(query, [str(path) for path in paths]).fetchall()
        return row


def _total(query: str, *paths: str | Path) -> Decimal:
    (value,) = _row(query, *paths)
    return Decimal(value)


BOUGHT = """
    FROM read_parquet(?) AS bought LEFT JOIN read_parquet(?) AS product USING (product_id)
    WHERE quantity != 0 AND (product_type IS NULL OR NOT contains(product_type, 'GASOLINE'))
"""


def test_money_and_lines_are_the_sources(folder: Path) -> None:
    lines_and_cents = _row(
        f"SELECT count(*), sum(round(sales_value * 100)::BIGINT) {BOUGHT}",
        _source("transactions"),
        _source("products"),
    )
    written = pq.read_table(folder / "interactions.parquet", columns=["sales_value"])
    total = _total("SELECT sum(sales_value) FROM read_parquet(?)", folder / "interactions.parquet")
    assert (written.num_rows, int(total * 100)) == lines_and_cents


def test_fuel_and_nothing_are_no_purchases(folder: Path) -> None:
    fuel = _total(
        "SELECT count(*) FROM read_parquet(?) JOIN read_parquet(?) USING (product_id) "
        "WHERE contains(product_type, 'GASOLINE')",
        folder / "interactions.parquet",
        folder / "items.parquet",
    )
    assert fuel == 0
    source = "SELECT count(*) FROM read_parquet(?) WHERE quantity = 0"
    assert _total(source, _source("transactions")) > 0
    dearest = _total(
        "SELECT max(shelf_price) FROM read_parquet(?)", folder / "interactions.parquet"
    )
    assert dearest < 1_000


def test_every_bought_product_is_an_item(folder: Path) -> None:
    items = pq.read_table(folder / "items.parquet")
    bought = _total(
        "SELECT count(DISTINCT product_id) FROM read_parquet(?)", _source("transactions")
    )
    assert items.num_rows == bought == 68_509
    assert items["product_type"].null_count > 0  # one at least is in no product table


def test_every_household_is_a_user(folder: Path) -> None:
    users = pq.read_table(folder / "users.parquet")
    assert users.num_rows == 2_469
    assert users.num_rows - users["age"].null_count == 801


def test_prepared(prepared: PreparedDataset) -> None:
    assert prepared.meta.currency == "USD"
    assert 25_700 < len(prepared.items) - 1 < 25_900
    trips = pq.read_metadata(prepared.replay / TRIPS).num_rows
    assert 0.95 * trips < len(prepared.requests(Split.TEST)) < trips == 10_716
    arrays = prepared.arrays
    known = arrays.purchase_rows != 0
    assert 0.94 < known.mean() < 0.96
    test_days = (arrays.request_ts_us.max() - prepared.meta.test_start_us) / 86_400_000_000
    assert 27.9 < test_days <= 28


def test_the_money_of_the_trips_is_the_sources(prepared: PreparedDataset) -> None:
    """All but the test period is history; what is left is exact to the cent."""
    test_start = prepared.meta.test_start_us
    source = _total(
        f"SELECT sum(round(sales_value * 100)::BIGINT) {BOUGHT} "
        f"AND epoch_us(transaction_timestamp) >= {test_start}",
        _source("transactions"),
        _source("products"),
    )
    micros = _total(
        "SELECT sum(list_sum(revenue_micros))::BIGINT FROM read_parquet(?)",
        prepared.replay / TRIPS,
    )
    assert Decimal(micros) / 10_000 == source
