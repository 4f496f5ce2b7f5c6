"""Small source tables whose file, folder and column names need care, and random ones.

A day in these tables is a number of days after `START`.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from training.features import US_PER_DAY, to_ts_us

START = datetime(2024, 1, 1, tzinfo=UTC)
START_US = to_ts_us(START)

TOML = """
name = "corner-shop"
currency = "EUR"
min_item_count = {min_item_count}

[users]
file = "it's users.parquet"
id = "who's"
features = ["home \\"town\\"", "who's"]

[items]
file = "items.parquet"
id = "sku"
features = ["kind", "brand's"]
available = "in stock"

[interactions]
file = "interactions.parquet"
user = "buyer"
item = "sku"
time = "when"
revenue = "paid"
price = "price"
context = ["store"]

[split]
test_days = 7
validation_days = 7
"""


class Line(NamedTuple):
    """A row of the interactions."""

    buyer: str | None
    sku: str | None
    ts_us: int
    paid: str = "1.00"
    price: str = "1.00"
    store: str | None = "s1"

    @property
    def micros(self) -> int:
        return int(Decimal(self.paid) * 1_000_000)


def day(days: float, us: int = 0) -> int:
    """Microseconds since the epoch, some days after `START`."""
    return START_US + int(days * US_PER_DAY) + us


@dataclass
class Source:
    """Three tables and their description."""

    lines: list[Line]
    users: dict[str, list[Any]] = field(
        default_factory=lambda: {
            'home "town"': ["Bonn", None, "Köln"],
            "who's": ["u1", "u2", "u3"],
        }
    )
    items: dict[str, list[Any]] = field(
        default_factory=lambda: {
            "sku": ["a", "b", "c", "z"],
            "kind": ["fruit", None, "fruit", "bread"],
            "brand's": ["x", "x", "y", "y"],
            "in stock": [True, False, True, True],
        }
    )
    min_item_count: int = 2
    toml: str = TOML
    interactions: dict[str, Any] = field(default_factory=dict)
    """Columns that replace those made from the lines."""

    def write(self, folder: Path) -> Path:
        """Write everything; returns the path of `dataset.toml`."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(self.users), folder / "it's users.parquet")
        pq.write_table(pa.table(self.items), folder / "items.parquet")
        columns: dict[str, Any] = {
            name: [getattr(line, name) for line in self.lines] for name in ("buyer", "sku", "store")
        }
        for name in ("paid", "price"):
            columns[name] = [Decimal(getattr(line, name)) for line in self.lines]
        epoch = datetime(1970, 1, 1)  # no zone: to be taken as UTC
        columns["when"] = [epoch + timedelta(microseconds=line.ts_us) for line in self.lines]
        columns |= self.interactions
        pq.write_table(pa.table(columns), folder / "interactions.parquet")
        config = folder / "dataset.toml"
        config.write_text(self.toml.format(min_item_count=self.min_item_count))
        return config


def corner_shop() -> Source:
    """Tables small enough to know every answer; validation starts on day 16, test on day 23."""
    return Source(
        [
            Line("u2", "z", day(25), "9.99"),
            Line("u1", "a", day(0), "0.10", "0.10"),
            Line("u1", "b", day(0), "2.00", "2.00"),
            Line("u1", "a", day(0), "0.20", "0.20"),
            Line("u2", "a", day(2), "0.70", "0.70", "s2"),
            Line("u2", "c", day(2), "3.00", "3.00", "s2"),
            Line("u1", "b", day(16, -1), "2.50", "2.50"),
            Line("u2", "c", day(16), "3.00", "3.00", "s3"),
            Line("u1", "a", day(16), "0.30", "0.30", "s3"),
            Line("u2", "c", day(20), "3.00", "3.00"),
            Line("u1", "a", day(23, -1), "0.40", "0.40"),
            Line("u1", "a", day(23), "19.99", "0.50", "s9"),
            Line("u1", "c", day(23), "3.07", "3.00", "s9"),
            Line("u2", "c", day(23), "3.00", "3.00"),
            Line("u2", "b", day(30), "1234.56", "2.00", None),
        ]
    )


def random_shop(seed: int) -> Source:
    """60 days of trips by 8 households among 12 items, some of them rare, some at equal times."""
    draw = random.Random(seed)
    households = [f"h{n}" for n in range(8)]
    skus = [f"i{n:02}" for n in range(12)]
    lines = []
    for household in households:
        times = sorted({day(draw.randrange(60), draw.randrange(24) * 3_600_000_000)
                        for _ in range(25)})  # fmt: skip
        for ts_us in [*times, day(60)]:
            store = f"s{draw.randrange(3)}"
            for sku in draw.sample(skus, draw.randint(1, 4)):
                if sku == "i11" and draw.random() < 0.95:
                    continue
                paid, price = (f"{draw.randint(1, 2000) / 100:.2f}" for _ in range(2))
                lines.append(Line(household, sku, ts_us, paid, price, store))
    draw.shuffle(lines)
    return Source(
        lines,
        users={
            'home "town"': [draw.choice(["Bonn", "Köln", None]) for _ in households],
            "who's": households,
        },
        items={
            "sku": skus,
            "kind": [f"k{n % 3}" for n in range(len(skus))],
            "brand's": [draw.choice(["x", "y", None]) for _ in skus],
            "in stock": [True] * len(skus),
        },
        min_item_count=5,
    )
