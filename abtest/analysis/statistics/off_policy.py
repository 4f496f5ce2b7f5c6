"""Off-policy: what another policy would have earned, from decisions that were logged by chance."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from abtest.analysis.sample import Float64, Int64
from abtest.analysis.statistics.effect import ALPHA, AnalysisError, Interval, PolicyValue

FEWEST_EFFECTIVE_UNITS = 100.0
"""Below it no value is told: a handful of heavy weights would decide it."""
_Z = float(norm.ppf(1 - ALPHA / 2))


def policy_value(
    rewards: Float64,
    logged_propensities: Float64,
    taken: NDArray[np.bool_],
    units: Int64 | None = None,
) -> PolicyValue:
    """Value of a deterministic policy by inverse propensity scores.

    With w = taken / propensity: IPS = mean(w r), SNIPS = sum(w r) / sum(w), effective sample size
    sum(w)^2 / sum(w^2). The interval is of SNIPS by the delta method, clustered by unit.

    Assumes that every decision the policy would take had a chance above zero, and that propensities
    are the probabilities that the decisions were drawn with.

    Args:
        rewards: [D] of each decision, 0 where nothing came of it.
        logged_propensities: [D] probability of the logged decision, in (0, 1].
        taken: [D] whether the policy would have decided the same.
        units: [D] index of the unit of each decision, from 0; without, decisions are independent.
            Weights are then summed by unit, and the effective sample size counts units.

    Returns:
        Without estimates where the effective sample size is below 100.

    Raises:
        AnalysisError: lengths differ, there is no decision, a reward is not finite, a propensity is
            not in (0, 1], or a unit is negative.

    Source: Horvitz & Thompson (1952); Swaminathan & Joachims (2015), *The Self-Normalized Estimator
    for Counterfactual Learning*, NIPS; Kish (1965), *Survey Sampling*, for the effective size.
    """
    _check(rewards, logged_propensities, taken, units)
    weights = np.where(taken, 1 / logged_propensities, 0.0)
    products = np.asarray(weights * rewards, np.float64)
    if units is not None:
        weights, products = _by_unit(weights, units), _by_unit(products, units)
    mass = float(weights.sum())
    effective = mass**2 / float(np.sum(weights**2)) if mass else 0.0
    told = PolicyValue(
        decisions=len(rewards),
        taken=int(np.count_nonzero(taken)),
        effective_units=effective,
        ips=None,
        snips=None,
        interval=None,
    )
    if effective < FEWEST_EFFECTIVE_UNITS:
        note = (
            f"the decisions weigh as much as {effective:.0f} units, below "
            f"{FEWEST_EFFECTIVE_UNITS:.0f}: too few to tell the policy's value"
        )
        return told.model_copy(update={"warnings": (note,)})
    value = float(products.sum()) / mass
    count = len(weights)
    residual = products - value * weights
    half = _Z * float(np.sqrt(count / (count - 1) * np.sum(residual**2))) / mass
    interval = Interval(low=value - half, high=value + half)
    ips = float(products.sum()) / len(rewards)
    return told.model_copy(update={"ips": ips, "snips": value, "interval": interval})


def _by_unit(column: Float64, units: Int64) -> Float64:
    own = np.unique(units, return_inverse=True)[1]
    return np.asarray(np.bincount(own, column), np.float64)


def _check(
    rewards: Float64, propensities: Float64, taken: NDArray[np.bool_], units: Int64 | None
) -> None:
    lengths = {len(column) for column in (rewards, propensities, taken)}
    lengths |= set() if units is None else {len(units)}
    if len(lengths) > 1 or not len(rewards):
        raise AnalysisError(
            f"rewards, logged_propensities, taken and units have {sorted(lengths)} numbers; each "
            "must have one a decision, and at least one"
        )
    if not np.isfinite(rewards).all():
        raise AnalysisError("rewards must be finite; count what is missing as 0")
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise AnalysisError(
            "logged_propensities must be in (0, 1]; leave out decisions that chance did not make"
        )
    if units is not None and units.min() < 0:
        raise AnalysisError("units must be indices of at least 0")
