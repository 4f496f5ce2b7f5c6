"""Response: what a user does with a list, drawn at random or expected exactly.

A user looks down to some position, clicks each item that was seen with a probability that depends
on taste and appeal, and buys what was clicked with one that depends on taste and price. Nothing
depends on earlier visits. So the money a list earns is a sum, whose mean and variance are known.

Legend: U users, I items, B lists, P positions of a list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.synthetic.world import DEVICES, Float64, Int64, World, WorldError

Bool = NDArray[np.bool_]

SEEN_DECAY = {"desktop": 0.5, "phone": 0.9}
"""Position p, from 0, is seen with probability (1 + p) ** -decay."""


class Habits(NamedTuple):
    """Probabilities of a user who has seen an item."""

    click: Float64
    """Of a click."""
    buy: Float64
    """Of a purchase after the click."""


class Lists(NamedTuple):
    """B lists as shown; equal lengths."""

    users_B: Int64
    devices_B: Int64
    """Index in `DEVICES`."""
    items_BP: Int64


class Responses(NamedTuple):
    """What came of B lists."""

    seen_BP: Bool
    clicked_BP: Bool
    """Only what was seen."""
    bought_BP: Bool
    """Only what was clicked; at the item's price."""


class Earnings(NamedTuple):
    """Money of a list in currency units."""

    mean_B: Float64
    variance_B: Float64


def habits(world: World, users: Int64, items: Int64) -> Habits:
    """Probabilities of pairs; `users` and `items` broadcast against each other."""
    match = np.einsum("...d,...d->...", world.taste_UD[users], world.vector_ID[items])
    click = _sigmoid(-3.4 + 2.4 * match + world.appeal_I[items])
    strain = world.dearness_I[items] - world.budget_U[users]
    buy = _sigmoid(-1.0 + 1.6 * match - 1.2 * strain)
    return Habits(click, buy)


def values(world: World, users_B: Int64) -> Float64:
    """Expected money of each item where it is seen, [B, I], currency units."""
    match_BI = world.taste_UD[users_B] @ world.vector_ID.T
    click_BI = _sigmoid(-3.4 + 2.4 * match_BI + world.appeal_I)
    strain_BI = world.dearness_I - world.budget_U[users_B, None]
    buy_BI = _sigmoid(-1.0 + 1.6 * match_BI - 1.2 * strain_BI)
    return click_BI * buy_BI * (world.price_micros_I / 1e6)


def earnings(world: World, lists: Lists) -> Earnings:
    """Mean and variance of what lists earn, exactly.

    The user's patience is one number: who sees a position has seen all before it. Given what was
    seen, items are independent. With s the probability that a position is seen, m the mean and q
    the mean square of what its item earns once seen, the mean is sum s m, the second moment is
    sum s q + 2 sum over p < r of s_r m_p m_r.
    """
    seen_BP = seen_probability(lists)
    found = habits(world, lists.users_B[:, None], lists.items_BP)
    price_BP = world.price_micros_I[lists.items_BP] / 1e6
    money_BP = found.click * found.buy * price_BP
    mean_B = (seen_BP * money_BP).sum(axis=1)
    before_BP = np.cumsum(money_BP, axis=1) - money_BP
    square_B = (seen_BP * money_BP * (price_BP + 2 * before_BP)).sum(axis=1)
    return Earnings(mean_B, square_B - mean_B**2)


def respond(world: World, lists: Lists, random: np.random.Generator) -> Responses:
    """Draw what users do with lists."""
    found = habits(world, lists.users_B[:, None], lists.items_BP)
    shape = lists.items_BP.shape
    seen_BP = random.random((shape[0], 1)) < seen_probability(lists)
    clicked_BP = seen_BP & (random.random(shape) < found.click)
    bought_BP = clicked_BP & (random.random(shape) < found.buy)
    return Responses(seen_BP, clicked_BP, bought_BP)


def seen_probability(lists: Lists) -> Float64:
    """Probability that each position is seen, [B, P].

    Raises:
        WorldError: a device is unknown.
    """
    if ((lists.devices_B < 0) | (lists.devices_B >= len(DEVICES))).any():
        wrong = sorted({*lists.devices_B.tolist()} - {*range(len(DEVICES))})
        raise WorldError(f"device {wrong[0]} must be in [0, {len(DEVICES) - 1}], as in DEVICES")
    decay_B = np.array([SEEN_DECAY[device] for device in DEVICES])[lists.devices_B]
    positions_P = np.arange(1, lists.items_BP.shape[1] + 1, dtype=np.float64)
    seen_BP: Float64 = positions_P ** -decay_B[:, None]
    return seen_BP


def _sigmoid(logits: Float64) -> Float64:
    odds: Float64 = 1 / (1 + np.exp(-logits))
    return odds
