"""Tables: the world's users, items and purchases, as three tables any shop could bring.

They hold what a shop would know: ids, ages, regions, kinds, brands, and who bought what before it
had recommendations. Nothing of `World` that is called latent is in them.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.features import US_PER_DAY
from training.synthetic.visits import draw_visits, shop
from training.synthetic.world import CURRENCY, DEVICES, World, item_ids, user_ids

START_US = 1_735_689_600_000_000
"""2025-01-01 00:00 UTC: when the shop opens."""
HISTORY_DAYS = 56
LIVE_US = START_US + HISTORY_DAYS * US_PER_DAY
"""When the tables end and recommendations begin."""

CONFIG = f"""\
name = "synthetic"
currency = "{CURRENCY}"
min_item_count = 1

[users]
file = "users.parquet"
id = "user_id"
features = ["age", "region"]

[items]
file = "items.parquet"
id = "item_id"
features = ["kind", "brand"]

[interactions]
file = "interactions.parquet"
user = "user_id"
item = "item_id"
time = "moment"
revenue = "paid"
context = ["device"]

[split]
test_days = 7
validation_days = 7
"""


def write_tables(world: World, target: Path) -> Path:
    """Write the shop's tables with their description.

    Args:
        world: whose shop it is.
        target: folder for three Parquet files and `dataset.toml`; made if absent.

    Returns:
        Path of `dataset.toml`.
    """
    target.mkdir(parents=True, exist_ok=True)
    users = {
        "user_id": user_ids(world),
        "age": [f"age-{age}" for age in world.age_U.tolist()],
        "region": [f"region-{region}" for region in world.region_U.tolist()],
    }
    items = {
        "item_id": item_ids(world),
        "kind": [f"kind-{kind:02d}" for kind in world.kind_I.tolist()],
        "brand": [f"brand-{brand:02d}" for brand in world.brand_I.tolist()],
    }
    tables = {"users": pa.table(users), "items": pa.table(items), "interactions": _sales(world)}
    for name, table in tables.items():
        pq.write_table(table, target / f"{name}.parquet")
    config = target / "dataset.toml"
    config.write_text(CONFIG)
    return config


def _sales(world: World) -> pa.Table:
    random = np.random.default_rng((world.seed, HISTORY_DAYS))
    visits = draw_visits(world, START_US, HISTORY_DAYS, random)
    lists, responses = shop(world, visits, random)
    visit, place = np.nonzero(responses.bought_BP)
    items = lists.items_BP[visit, place]
    names, people = np.array(item_ids(world)), np.array(user_ids(world))
    return pa.table(
        {
            "user_id": people[visits.users_V[visit]],
            "item_id": names[items],
            "moment": pa.array(visits.ts_us_V[visit], pa.timestamp("us", "UTC")),
            "paid": world.price_micros_I[items] / 1e6,
            "device": np.array(DEVICES)[visits.devices_V[visit]],
        }
    )
