"""Policies: what the arms of a simulated experiment show, and the lift between them, exactly.

The control ranks with some error. A treatment shows, in a share of its visits, the lists of a
ranker that is better, or worse; what it earns is linear in that share, so any lift between the two
can be had exactly.

Legend: U users, P positions of a list.
"""

from typing import NamedTuple

import numpy as np

from training.synthetic.lists import noisy_lists
from training.synthetic.response import Lists, earnings
from training.synthetic.world import DEVICES, PHONE_SHARE, Float64, Int64, World

LENGTH = 20
"""Items a visit is shown."""
CONTROL_NOISE, BETTER_NOISE, WORSE_NOISE = 1.5, 0.3, 4.0
_DEVICE_SHARES = dict(zip(("desktop", "phone"), (1 - PHONE_SHARE, PHONE_SHARE), strict=True))


class SimulationError(ValueError):
    """A simulation that cannot be run; the message names value, rule and remedy."""


class Policy(NamedTuple):
    """Lists for everybody, and what they earn."""

    lists_UP: Int64
    mean_U: Float64
    """Expected money of a visit."""
    square_U: Float64
    """Expected square of it."""


class Arms(NamedTuple):
    """A control and a treatment whose lift is known."""

    lift: float
    """Of revenue a user, as a share of the control's."""
    control: Policy
    other: Policy
    share: float
    """Of the treatment's visits in which `other` is shown; the control's lists in the rest."""


class Moments(NamedTuple):
    """Revenue of a user who came at least once."""

    mean: float
    variance: float
    exposed: float
    """Share of all users who came."""


class Policies:
    """The policies of a world, each made once."""

    def __init__(self, world: World, seed: int) -> None:
        """Make the lists of all three rankers."""
        self._world = world
        self.control = self._policy(CONTROL_NOISE, seed)
        self.better = self._policy(BETTER_NOISE, seed)
        self.worse = self._policy(WORSE_NOISE, seed)

    def arms(self, lift: float) -> Arms:
        """Arms with a lift.

        Raises:
            SimulationError: no share of visits gives it.
        """
        other = self.better if lift >= 0 else self.worse
        share = lift / self._gain(other)
        if share > 1:
            low, high = sorted(self._gain(policy) for policy in (self.better, self.worse))
            raise SimulationError(
                f"lift = {lift:g} must be in [{low:.2f}, {high:.2f}] in this world: no lists earn "
                "more, and no ranker of its kind less; choose one in it"
            )
        return Arms(lift, self.control, other, share)

    def _gain(self, policy: Policy) -> float:
        """Lift over the control where all visits are shown it."""
        visits_U = self._world.visits_per_day_U
        return float(visits_U @ policy.mean_U / (visits_U @ self.control.mean_U)) - 1

    def _policy(self, noise: float, seed: int) -> Policy:
        users_U = np.arange(self._world.users)
        lists_UP = noisy_lists(self._world, users_U, LENGTH, noise=noise, seed=seed)
        mean_U, square_U = np.zeros(len(users_U)), np.zeros(len(users_U))
        for number, device in enumerate(DEVICES):
            devices_U = np.full(len(users_U), number)
            money = earnings(self._world, Lists(users_U, devices_U, lists_UP))
            mean_U += _DEVICE_SHARES[device] * money.mean_B
            square_U += _DEVICE_SHARES[device] * (money.variance_B + money.mean_B**2)
        return Policy(lists_UP, mean_U, square_U)


def moments(world: World, arms: Arms, share: float, days: float) -> Moments:
    """Mean and variance of revenue a user who came within some days, exactly.

    Visits are a Poisson process of rate v for each user, so the revenue of d days has the mean
    v d m and the second moment v d q + (v d m)^2, where m and q are those of a visit.
    """
    visits_U = world.visits_per_day_U * days
    mean_U = (1 - share) * arms.control.mean_U + share * arms.other.mean_U
    square_U = (1 - share) * arms.control.square_U + share * arms.other.square_U
    exposed = float(-np.expm1(-visits_U).sum())
    mean = float(visits_U @ mean_U) / exposed
    square = float((visits_U * square_U + (visits_U * mean_U) ** 2).sum()) / exposed
    return Moments(mean, square - mean**2, exposed / world.users)
