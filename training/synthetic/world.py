"""World: users with tastes, items with prices and attributes, all drawn from one seed.

What decides who buys what is latent. Ids, kinds, brands, age groups and regions are all that tables
and models get to see of it; they tell something, never everything.

Legend: U users, I items, K kinds, D latent width.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

WIDTH = 6
KINDS = 25
AGES = 8
BRANDS = 12
REGIONS = 5
CURRENCY = "EUR"
DEVICES = ("desktop", "phone")
PHONE_SHARE = 0.6
MIN_USERS, MAX_USERS = 10, 200_000
MIN_ITEMS, MAX_ITEMS = 50, 100_000


class WorldError(ValueError):
    """A world that cannot be made or asked; the message names value, rule and remedy."""


class World(NamedTuple):
    """Everything that is true; equal seeds and sizes give equal worlds."""

    seed: int
    taste_UD: Float64
    """Latent: what a user likes."""
    budget_U: Float64
    """Latent: log of the price, as a share of what its kind costs, that a user finds right."""
    visits_per_day_U: Float64
    vector_ID: Float64
    """Latent: what an item is like."""
    appeal_I: Float64
    """Latent: how much an item is clicked, whoever sees it."""
    price_micros_I: Int64
    dearness_I: Float64
    """Latent: log of the price as a share of what the kind costs."""
    shelf_I: Float64
    """Latent: share of the places that an item holds in the shop outside of recommendations."""
    kind_I: Int64
    brand_I: Int64
    """Leans on `appeal_I`."""
    age_U: Int64
    """Leans on `taste_UD`."""
    region_U: Int64
    """Says nothing."""

    @property
    def users(self) -> int:
        """U."""
        return len(self.budget_U)

    @property
    def items(self) -> int:
        """I."""
        return len(self.appeal_I)


def make_world(users: int, items: int, seed: int) -> World:
    """Draw a world.

    Args:
        users: U, 10 to 200,000.
        items: I, 50 to 100,000.
        seed: of everything in it, at least 0.

    Raises:
        WorldError: a size or the seed is out of its range.
    """
    for name, value, least, most in (
        ("users", users, MIN_USERS, MAX_USERS),
        ("items", items, MIN_ITEMS, MAX_ITEMS),
        ("seed", seed, 0, 2**31),
    ):
        if not least <= value <= most:
            raise WorldError(f"{name} = {value} must be in [{least}, {most}]; choose one in it")
    random = np.random.default_rng((seed, users, items))
    centre_KD = random.normal(size=(KINDS, WIDTH))
    centre_KD /= np.linalg.norm(centre_KD, axis=1, keepdims=True)
    kind_I = random.choice(KINDS, items, p=_zipf(KINDS, 0.5))
    vector_ID = centre_KD[kind_I] + 0.35 * random.normal(size=(items, WIDTH))
    appeal_I = random.normal(scale=0.5, size=items)
    dearness_I = random.normal(scale=0.5, size=items)
    cents_I = np.rint(100 * np.exp(random.normal(1.8, 0.5, KINDS)[kind_I] + dearness_I))
    taste_UD = _tastes(random, users, centre_KD)
    age_centre_AD = random.normal(size=(AGES, WIDTH))
    return World(
        seed=seed,
        taste_UD=taste_UD,
        budget_U=random.normal(scale=0.4, size=users),
        visits_per_day_U=random.gamma(4.0, 0.25 / 4.0, users),
        vector_ID=vector_ID,
        appeal_I=appeal_I,
        price_micros_I=np.maximum(cents_I, 1).astype(np.int64) * 10_000,
        dearness_I=dearness_I,
        shelf_I=random.permutation(_zipf(items, 0.8)),
        kind_I=kind_I,
        brand_I=_ranked(appeal_I + random.normal(scale=0.5, size=items), BRANDS),
        age_U=(taste_UD @ age_centre_AD.T + random.normal(size=(users, AGES))).argmax(axis=1),
        region_U=random.integers(REGIONS, size=users),
    )


def item_ids(world: World) -> tuple[str, ...]:
    """Ids of the items by number."""
    return tuple(f"i{number:05d}" for number in range(world.items))


def user_ids(world: World) -> tuple[str, ...]:
    """Ids of the users by number."""
    return tuple(f"u{number:06d}" for number in range(world.users))


def _tastes(random: np.random.Generator, users: int, centre_KD: Float64) -> Float64:
    """Everybody likes three kinds, and a little something of their own."""
    likes_UK = random.random((users, KINDS)).argsort(axis=1)[:, :3]
    weight_U3 = random.dirichlet((2.0, 2.0, 2.0), users)
    taste_UD: Float64 = (centre_KD[likes_UK] * weight_U3[:, :, None]).sum(axis=1)
    taste_UD /= np.linalg.norm(taste_UD, axis=1, keepdims=True)
    taste_UD += 0.15 * random.normal(size=taste_UD.shape)
    return taste_UD


def _zipf(size: int, exponent: float) -> Float64:
    share: Float64 = 1 / np.arange(1, size + 1) ** exponent
    share /= share.sum()
    return share


def _ranked(value: Float64, groups: int) -> Int64:
    """Group of each by its rank, groups of equal size."""
    rank: Int64 = value.argsort().argsort()
    return rank * groups // len(value)
