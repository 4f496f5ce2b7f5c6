"""Policies: what it would earn to give every segment the variant that is best in it.

The best variants are found on one half of the units and judged on the other, and the other way
round: judged on the units it was found on, the best of several is too good by luck alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.metric import Kind, Metric
from abtest.analysis.readings.readings import Readings
from abtest.analysis.sample import Float64
from abtest.analysis.statistics.off_policy import policy_value
from abtest.report.effects import MAX_SEGMENTS
from abtest.report.model import OffPolicy
from abtest.report.trial import Trial


class _Logged(NamedTuple):
    """Units of one segment and variant."""

    segment: str
    variant: str
    rewards: Float64
    half: NDArray[np.int64]
    """0 or 1 for each unit, by its place in the order of names."""


def segment_policies(readings: Readings, trial: Trial, metric: Metric) -> tuple[OffPolicy, ...]:
    """A policy for each field of the trial's segments; for means only."""
    if metric.kind is not Kind.MEAN:
        return ()
    found = []
    for field in trial.segments:
        values = list(readings.segment_values(field))[:MAX_SEGMENTS]
        logged = [
            _logged(readings, metric, field, value, name)
            for value in values
            for name in trial.subject.variants
        ]
        if len(values) > 1 and any(len(each.rewards) for each in logged):
            found.append(_policy(field, logged, trial, metric))
    return tuple(found)


def _logged(readings: Readings, metric: Metric, field: str, value: str, variant: str) -> _Logged:
    rewards = readings.sample(metric, variant, segment=(field, value)).numerator * metric.scale
    return _Logged(value, variant, rewards, np.arange(len(rewards)) % 2)


def _policy(field: str, logged: list[_Logged], trial: Trial, metric: Metric) -> OffPolicy:
    chosen = [_best(logged, half, metric) for half in (0, 1)]
    taken = [
        np.array([chosen[1 - half].get(each.segment) == each.variant for half in (0, 1)])[each.half]
        for each in logged
    ]
    propensities = [np.full(len(each.rewards), trial.weights[each.variant]) for each in logged]
    value = policy_value(
        np.concatenate([each.rewards for each in logged]),
        np.concatenate(propensities),
        np.concatenate(taken),
    )
    return OffPolicy(policy=f"the best variant for each {field}", value=value)


def _best(logged: list[_Logged], half: int, metric: Metric) -> dict[str, str]:
    """Variant with the best mean by segment, on one half of the units."""
    best: dict[str, tuple[float, str]] = {}
    sign = 1.0 if metric.good == "up" else -1.0
    for each in logged:
        rewards = each.rewards[each.half == half]
        if len(rewards):
            score = sign * float(rewards.mean())
            if each.segment not in best or score > best[each.segment][0]:
                best[each.segment] = (score, each.variant)
    return {segment: variant for segment, (_, variant) in best.items()}
