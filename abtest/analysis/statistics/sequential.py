"""Sequential: confidence sequences, which stay right however often an experiment is looked at."""

import math

from abtest.analysis.statistics.effect import ALPHA, AnalysisError, Interval

DEFAULT_PLANNED_UNITS = 10_000
"""Units of both arms at which a sequence is tightest, where no number was planned."""
FEWEST_UNITS = 100
"""Units an arm needs before its sequence is told: it is right for large samples only."""


def mixing_variance(planned_units: float, alpha: float = ALPHA) -> float:
    """The rho^2 that makes the sequence tightest at `planned_units`.

    It must be chosen before the data: `planned_units` may not follow from what was seen.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), *Time-uniform central limit theory
    and asymptotic confidence sequences*, Annals of Statistics 52(6), on choosing rho.

    Raises:
        AnalysisError: planned_units is not positive, or alpha not in (0, 1).
    """
    if not planned_units > 0:
        raise AnalysisError(f"planned_units == {planned_units} must be above 0; leave it out")
    if not 0 < alpha < 1:
        raise AnalysisError(f"alpha == {alpha} must be in (0, 1); 0.05 is usual")
    return (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / planned_units


def half_width(units: float, planned_units: float, alpha: float = ALPHA) -> float:
    """Half the width of the sequence of a mean of variance 1 after so many units, at least 1.

    sqrt(2 (n rho^2 + 1) / (n rho)^2 * ln(sqrt(n rho^2 + 1) / alpha)).

    Source: the same paper, theorem 2.2.
    """
    spread = units * mixing_variance(planned_units, alpha) + 1
    return math.sqrt(2 * spread / (units * (spread - 1)) * math.log(math.sqrt(spread) / alpha))


def always_valid(
    estimate: float,
    standard_error: float,
    arms: tuple[int, int],
    planned_units: int | None = None,
    alpha: float = ALPHA,
) -> Interval | None:
    """Confidence sequence of a difference between two arms, at this look.

    An estimate whose variance is that of a mean of n terms, V / n, with n the units of both arms:
    V = n * standard_error^2 holds the variances of both arms, each over its share of the units, as
    in the paper's section 3 on treatment effects. With probability 1 - alpha the true difference is
    in the interval at every look, so it may decide when to stop.

    Args:
        estimate: the difference.
        standard_error: of the difference.
        arms: units of each arm.
        planned_units: units of both arms at which it is tightest, fixed in advance; without,
            10,000. It never makes the interval wrong, only wider elsewhere.
        alpha: chance that the truth is ever outside.

    Returns:
        None for fewer than 100 units in an arm.
    """
    if min(arms) < FEWEST_UNITS:
        return None
    n = sum(arms)
    planned = DEFAULT_PLANNED_UNITS if planned_units is None else planned_units
    half = standard_error * math.sqrt(n) * half_width(n, planned, alpha)
    return Interval(low=estimate - half, high=estimate + half)
