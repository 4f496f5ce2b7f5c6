"""Equal seeds equal worlds; what is latent reaches no table."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from training.data.dataset import Split
from training.data.source import read_dataset_config
from training.data.transactions import prepare
from training.features import US_PER_DAY
from training.synthetic.tables import LIVE_US, START_US, write_tables
from training.synthetic.visits import SHELF, draw_visits, shelf_lists
from training.synthetic.world import World, WorldError, make_world


def test_equal_seeds_make_equal_worlds_and_others_do_not(tmp_path: Path) -> None:
    one, again, other = (make_world(60, 80, seed) for seed in (3, 3, 4))
    for name in World._fields:
        assert np.array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.taste_UD, other.taste_UD)
    tables = [write_tables(world, tmp_path / f"{n}") for n, world in enumerate((one, again))]
    for name in ("users", "items", "interactions"):
        left, right = (pq.read_table(path.parent / f"{name}.parquet") for path in tables)
        assert left.equals(right)


@pytest.mark.parametrize(
    ("users", "items", "seed", "message"),
    [
        (9, 80, 0, r"users = 9 must be in \[10, 200000\]; choose one in it"),
        (60, 49, 0, r"items = 49 must be in \[50, 100000\]; choose one in it"),
        (60, 80, -1, r"seed = -1 must be in \[0, 2147483648\]; choose one in it"),
    ],
)
def test_sizes_are_bounded(users: int, items: int, seed: int, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        make_world(users, items, seed)


def test_tables_hold_nothing_latent_and_end_before_recommendations_begin(tmp_path: Path) -> None:
    world = make_world(200, 100, 0)
    path = write_tables(world, tmp_path)
    columns = {
        name: set(pq.read_table(tmp_path / f"{name}.parquet").column_names)
        for name in ("users", "items", "interactions")
    }
    assert columns == {
        "users": {"user_id", "age", "region"},
        "items": {"item_id", "kind", "brand"},
        "interactions": {"user_id", "item_id", "moment", "paid", "device"},
    }
    moments = pq.read_table(tmp_path / "interactions.parquet")["moment"].cast("int64").to_numpy()
    assert moments.min() >= START_US
    assert moments.max() < LIVE_US
    assert read_dataset_config(path).name == "synthetic"
    prepared = prepare(path, tmp_path / "prepared")
    assert all(len(prepared.requests(split)) for split in Split)


def test_what_is_seen_of_users_and_items_tells_something_of_what_is_latent() -> None:
    world = make_world(3000, 500, 1)
    brand = np.array([world.appeal_I[world.brand_I == b].mean() for b in range(12)])
    assert brand[-1] - brand[0] > 0.5
    of_age = np.array([world.taste_UD[world.age_U == age].mean(axis=0) for age in range(8)])
    of_region = np.array([world.taste_UD[world.region_U == r].mean(axis=0) for r in range(5)])
    assert np.abs(of_age).max() > 3 * np.abs(of_region - world.taste_UD.mean(axis=0)).max()


def test_visits_come_at_their_rates_in_time_order() -> None:
    world = make_world(2000, 60, 0)
    visits = draw_visits(world, LIVE_US, 10, np.random.default_rng(0))
    expected = 10 * world.visits_per_day_U.sum()
    assert abs(len(visits.users_V) - expected) < 4 * expected**0.5
    assert (np.diff(visits.ts_us_V) >= 0).all()
    assert visits.ts_us_V[0] >= LIVE_US
    assert visits.ts_us_V[-1] < LIVE_US + 10 * US_PER_DAY
    lists = shelf_lists(world, visits, np.random.default_rng(0))
    assert lists.items_BP.shape == (len(visits.users_V), SHELF)
