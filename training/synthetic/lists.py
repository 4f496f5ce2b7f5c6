"""Lists that need no model: the best there can be, the same for everybody, and what lies between.

Legend: B lists, I items, P positions of a list.
"""

import numpy as np

from training.synthetic.response import values
from training.synthetic.world import Float64, Int64, World, WorldError

_SLICE = 500
"""Users whose values are in memory at a time."""


def oracle_lists(world: World, users_B: Int64, length: int) -> Int64:
    """The lists that earn most, [B, P]: no order of no items earns more.

    The chance to be seen falls with the position, so the best list is by falling value.

    Raises:
        WorldError: there are fewer items than positions.
    """
    return noisy_lists(world, users_B, length, noise=0.0, seed=0)


def noisy_lists(world: World, users_B: Int64, length: int, *, noise: float, seed: int) -> Int64:
    """The lists of a ranker that knows log values up to an error, [B, P].

    Args:
        world: whose truth is known.
        users_B: who the lists are for.
        length: P.
        noise: standard deviation of the error of log value; 0 is the oracle. The error belongs to
            the pair of user and item: another list of that user has the same.
        seed: of the errors.

    Raises:
        WorldError: there are fewer items than positions, or the noise is negative.
    """
    _check_length(world, length)
    if noise < 0:
        raise WorldError(f"noise = {noise:g} must not be negative; 0 is the oracle")
    known, place_B = np.unique(users_B, return_inverse=True)
    lists = [
        _slice(world, known[first : first + _SLICE], length, noise, seed)
        for first in range(0, len(known), _SLICE)
    ]
    return np.concatenate(lists)[place_B]


def popular_list(world: World, length: int) -> Int64:
    """The list [P] that earns most among those that are the same for everybody.

    Raises:
        WorldError: there are fewer items than positions.
    """
    _check_length(world, length)
    totals_I = np.zeros(world.items)
    for first in range(0, world.users, _SLICE):
        users = np.arange(first, min(first + _SLICE, world.users))
        totals_I += world.visits_per_day_U[users] @ values(world, users)
    return np.argsort(-totals_I, kind="stable")[:length]


def _slice(world: World, users_B: Int64, length: int, noise: float, seed: int) -> Int64:
    log_values_BI: Float64 = np.log(values(world, users_B))
    if noise:
        for line, user in zip(log_values_BI, users_B.tolist(), strict=True):
            line += noise * np.random.default_rng((seed, user)).normal(size=world.items)
    return np.argsort(-log_values_BI, axis=1, kind="stable")[:, :length]


def _check_length(world: World, length: int) -> None:
    if not 1 <= length <= world.items:
        raise WorldError(f"length = {length} must be in [1, {world.items}], the number of items")
