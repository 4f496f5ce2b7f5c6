"""Visits: who comes when, on which device, and what the shop's own shelves sell to them.

Legend: U users, V visits in time order, P places of a shelf.
"""

from typing import NamedTuple

import numpy as np

from training.features import US_PER_DAY
from training.synthetic.response import Lists, Responses, respond
from training.synthetic.world import PHONE_SHARE, Int64, World

SHELF = 20
"""Places that a visitor passes by, outside of recommendations."""
KIND_SHARE = 0.3
"""Share of the places where a visitor stands before something liked, as after a search."""
_SLICE = 1000


class Visits(NamedTuple):
    """V visits in time order."""

    users_V: Int64
    ts_us_V: Int64
    devices_V: Int64


def draw_visits(world: World, start_us: int, days: float, random: np.random.Generator) -> Visits:
    """Visits of a period: a Poisson process for each user, phones and desktops at random."""
    counts_U = random.poisson(world.visits_per_day_U * days)
    users_V = np.repeat(np.arange(world.users), counts_U)
    ts_us_V = start_us + np.floor(random.random(len(users_V)) * days * US_PER_DAY).astype(np.int64)
    order = np.argsort(ts_us_V, kind="stable")
    devices_V = (random.random(len(users_V)) < PHONE_SHARE).astype(np.int64)
    return Visits(users_V[order], ts_us_V[order], devices_V)


def shelf_lists(world: World, visits: Visits, random: np.random.Generator) -> Lists:
    """What visitors pass by in the shop itself: mostly what it puts forward, whoever they are.

    Items stand there by `shelf_I`, which knows no tastes; in some places what the visitor likes
    best of a few of them. An item can stand in two places.
    """
    shape = (len(visits.users_V), SHELF)
    items_VP = random.choice(world.items, shape, p=world.shelf_I)
    searched_VP = random.random(shape) < KIND_SHARE
    for first in range(0, shape[0], _SLICE):
        part = slice(first, first + _SLICE)
        tried_VPX = random.choice(world.items, (*items_VP[part].shape, 4), p=world.shelf_I)
        taste_VD = world.taste_UD[visits.users_V[part]]
        match_VPX = np.einsum("vd,vpxd->vpx", taste_VD, world.vector_ID[tried_VPX])
        best_VP1 = match_VPX.argmax(axis=2)[:, :, None]
        liked_VP = np.take_along_axis(tried_VPX, best_VP1, axis=2)[:, :, 0]
        items_VP[part] = np.where(searched_VP[part], liked_VP, items_VP[part])
    return Lists(visits.users_V, visits.devices_V, items_VP)


def shop(world: World, visits: Visits, random: np.random.Generator) -> tuple[Lists, Responses]:
    """What visitors passed by, and what they did."""
    lists = shelf_lists(world, visits, random)
    return lists, respond(world, lists, random)
