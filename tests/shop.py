"""A small shop with tables of its own naming: users with habits, and how to train on it.

Every user has favourites that are bought again after a while; the rest is popular stuff. Amounts
are whole cents, so that money can be compared to the micro.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.config import TrainConfig, read_config
from training.data.dataset import PreparedDataset
from training.data.transactions import prepare

USERS = 60
ITEMS = 150
DAYS = 120
FAVOURITES = 8
FIRST_DAY = datetime(2024, 3, 1)
REGIONS = ("north", "south", None)
AISLES = ("bread", "fruit", "dairy", "drinks", "sweets")

DATASET = """\
name = "village-shop"
currency = "EUR"
min_item_count = 3

[users]
file = "customers.parquet"
id = "customer"
features = ["region"]

[items]
file = "articles.parquet"
id = "sku"
features = ["aisle"]
available = "in_stock"

[interactions]
file = "receipts.parquet"
user = "bought_by"
item = "article"
time = "moment"
revenue = "paid"
price = "piece_price"
context = ["till"]

[split]
test_days = 14
validation_days = 14
"""

CONFIG = """\
name = "{name}"
epochs = 2
batch_size = 64
learning_rate = 1e-2
history_length = 80
evaluations = 2
validation_requests = 120

[loss]
name = "{loss}"

[candidates]
positives = 6
history_negatives = 20
recalled_negatives = 20
random_negatives = 30

[retrieval]
width = 8
keep = 30
history_candidates = 60

[rank]
width = 8
hidden = [16, 8]
attention_length = 20
"""


def write_shop(folder: Path, seed: int = 5) -> Path:
    """Write the shop's three tables and their description, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    customers = [f"c{n:02d}" for n in range(USERS)]
    skus = [f"sku-{n:03d}" for n in range(ITEMS)]
    prices = rng.integers(50, 2000, ITEMS)
    tables = {
        "customers": pa.table(
            {"customer": customers, "region": [REGIONS[n % 3] for n in range(USERS)]}
        ),
        "articles": pa.table(
            {
                "sku": skus,
                "aisle": [AISLES[n % len(AISLES)] for n in range(ITEMS)],
                "in_stock": [n % 50 != 0 for n in range(ITEMS)],
            }
        ),
        "receipts": pa.Table.from_pylist(_receipts(rng, customers, skus, prices)),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    (folder / "dataset.toml").write_text(DATASET)
    return folder / "dataset.toml"


def _receipts(
    rng: np.random.Generator, customers: list[str], skus: list[str], prices: np.ndarray
) -> list[dict[str, object]]:
    popularity = 1 / np.arange(1, ITEMS + 1)
    popularity /= popularity.sum()
    rows: list[dict[str, object]] = []
    for customer in customers:
        favourites = rng.choice(ITEMS, FAVOURITES, replace=False)
        period = rng.integers(4, 15, FAVOURITES)
        for day in np.cumsum(rng.integers(1, 6, DAYS)):
            if day >= DAYS:
                break
            moment = FIRST_DAY + timedelta(
                days=int(day), hours=int(rng.integers(8, 20)), minutes=int(rng.integers(60))
            )
            due = favourites[rng.random(FAVOURITES) < 3 / period]
            others = rng.choice(ITEMS, 2, replace=False, p=popularity)
            for item in np.union1d(due, others):
                cents = int(prices[item])
                rows.append(
                    {
                        "bought_by": customer,
                        "article": skus[item],
                        "moment": moment,
                        "paid": cents / 100,
                        "piece_price": cents / 100,
                        "till": f"till-{int(rng.integers(3))}",
                    }
                )
    return rows


def write_config(folder: Path, name: str) -> Path:
    """Write a configuration that trains on the shop in seconds: baseline or dftopk."""
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(name=name, loss="bce" if name == "baseline" else name))
    return path


def tiny_config(folder: Path, name: str, **overrides: object) -> TrainConfig:
    """The configuration itself, with other top-level values where given."""
    return read_config(write_config(folder, name), dict(overrides))


def prepare_shop(folder: Path) -> PreparedDataset:
    """Write and prepare the shop."""
    return prepare(write_shop(folder / "tables"), folder / "prepared")
