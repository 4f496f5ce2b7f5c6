"""Metrics and units that the tests of statistics share."""

import numpy as np

from abtest.analysis.metric import Kind, Measure, Metric, Value
from abtest.analysis.sample import Sample, Values

MEAN = Metric(
    name="revenue", title="Revenue", numerator=Measure(event="conversion"), covariate_days=0
)
CUPED = MEAN.model_copy(update={"covariate_days": 28})
CAPPED = MEAN.model_copy(update={"cap_quantile": 0.9})
RATIO = Metric(
    name="click_rate",
    title="Click rate",
    kind=Kind.RATIO,
    numerator=Measure(event="click"),
    denominator=Measure(event="ranking"),
    covariate_days=0,
)
RATIO_CUPED = RATIO.model_copy(update={"covariate_days": 28})
P90 = Metric(
    name="latency_p90",
    title="Latency",
    kind=Kind.QUANTILE,
    quantile=0.9,
    good="down",
    numerator=Measure(event="ranking", value=Value.LATENCY),
)


def revenue(seed: int, units: int, factor: float = 1.0) -> Sample:
    """Zero-inflated lognormal totals, with earlier ones that go along with them."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=units)
    earlier = np.where(rng.random(units) < 0.4, np.exp(1 + taste), 0.0)
    spent = np.where(rng.random(units) < 0.4, np.exp(2 + taste + rng.normal(0, 0.4, units)), 0.0)
    return Sample(factor * spent, covariate=earlier)


def clicks(seed: int, units: int) -> Sample:
    """Clicks and impressions, now and before, of units that differ much."""
    rng = np.random.default_rng(seed)
    rate, activity = rng.beta(0.5, 4.5, units), rng.lognormal(2, 1, units)
    now, before = 1 + rng.poisson(activity), rng.poisson(activity)
    return Sample(
        rng.binomial(now, rate).astype(np.float64),
        now.astype(np.float64),
        rng.binomial(before, rate).astype(np.float64),
        before.astype(np.float64),
    )


def answers(seed: int, units: int, factor: float = 1.0) -> Values:
    """Times of answers; those of a unit go along with each other."""
    rng = np.random.default_rng(seed)
    counts = 1 + rng.poisson(4, units)
    of_unit = np.repeat(rng.normal(0, 0.6, units), counts)
    values = factor * np.exp(3 + of_unit + rng.normal(0, 0.3, len(of_unit)))
    return Values(values, np.repeat(np.arange(units), counts), units)
