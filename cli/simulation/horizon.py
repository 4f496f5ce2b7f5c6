"""Horizon: when a fixed-horizon test would know, if it were told the truth in advance."""

from scipy.stats import norm

from cli.simulation.policies import Arms, moments
from training.synthetic.world import World

ALPHA = 0.05
POWER = 0.8


def power(world: World, arms: Arms, days: float) -> float:
    """Chance that a two-sided test on all who came within some days finds the lift, with its sign.

    Half the users are in each arm; the normal approximation, with the exact mean and variance.
    """
    control = moments(world, arms, 0.0, days)
    treated = moments(world, arms, arms.share, days)
    units = world.users * control.exposed / 2
    error = ((control.variance + treated.variance) / units) ** 0.5
    return float(norm.cdf(abs(treated.mean - control.mean) / error - norm.isf(ALPHA / 2)))


def days_needed(world: World, arms: Arms, most: int) -> int | None:
    """The first whole day after which the test has 80 % power; None if `most` days do not do."""
    if arms.lift == 0:
        return None
    return next((day for day in range(1, most + 1) if power(world, arms, day) >= POWER), None)


def planned_units(world: World, arms: Arms, days: int) -> int:
    """Units that come within some days but for chance: a little less than are expected."""
    exposed = moments(world, arms, 0.0, days).exposed
    deviation = (world.users * exposed * (1 - exposed)) ** 0.5
    return max(2, int(world.users * exposed - 2 * deviation))
