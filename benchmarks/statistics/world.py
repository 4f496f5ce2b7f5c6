"""Worlds: units whose behaviour is drawn from a known law."""

import numpy as np

from abtest.analysis.metric import Kind, Measure, Metric, Value
from abtest.analysis.sample import Sample, Values

REVENUE = Metric(
    name="revenue",
    title="Revenue",
    numerator=Measure(event="conversion"),
    covariate_days=0,
)
REVENUE_CUPED = REVENUE.model_copy(update={"covariate_days": 28})
REVENUE_CAPPED = REVENUE.model_copy(update={"cap_quantile": 0.999})
CLICK_RATE = Metric(
    name="click_rate",
    title="Click rate",
    kind=Kind.RATIO,
    numerator=Measure(event="click"),
    denominator=Measure(event="ranking"),
    covariate_days=0,
)
CLICK_RATE_CUPED = CLICK_RATE.model_copy(update={"covariate_days": 28})


def latency(level: float) -> Metric:
    """A quantile of latency; less is better."""
    return Metric(
        name=f"latency_p{round(100 * level)}",
        title="Latency",
        kind=Kind.QUANTILE,
        quantile=level,
        good="down",
        numerator=Measure(event="ranking", value=Value.LATENCY),
    )


def revenue(
    generator: np.random.Generator,
    units: int,
    *,
    buyers: float = 0.1,
    sigma: float = 1.0,
    factor: float = 1.0,
) -> Sample:
    """Zero-inflated lognormal totals, and those of an earlier time by the same users.

    Args:
        generator: of random numbers.
        units: U.
        buyers: share of units that buy at all, on average; who bought before is likelier to.
        sigma: of the logarithm of what a buyer spends.
        factor: multiplies what they spend now.
    """
    taste = generator.normal(size=units)
    likely = np.clip(buyers * np.exp(taste - 0.5), 0, 1)

    def spent() -> np.ndarray:
        amount = generator.lognormal(2 + 0.5 * sigma * taste, sigma * 0.75**0.5, units)
        return np.asarray((generator.random(units) < likely) * amount, np.float64)

    return Sample(factor * spent(), covariate=spent())


def clicks(generator: np.random.Generator, units: int, *, factor: float = 1.0) -> Sample:
    """Clicks and impressions: units differ in how much they see and how readily they click."""
    rate = factor * generator.beta(0.5, 4.5, units)
    activity = generator.lognormal(2, 1, units)

    def seen() -> tuple[np.ndarray, np.ndarray]:
        shown = 1 + generator.poisson(activity)
        return generator.binomial(shown, rate).astype(np.float64), shown.astype(np.float64)

    now, before = seen(), seen()
    return Sample(*now, *before)


def latencies(generator: np.random.Generator, units: int, *, factor: float = 1.0) -> Values:
    """Milliseconds of each answer: some units are far away, or ask for more."""
    answers = 1 + generator.poisson(generator.lognormal(1, 1, units))
    distance = np.repeat(generator.normal(0, 0.4, units), answers)
    values = factor * np.exp(3 + distance + generator.normal(0, 0.5, len(distance)))
    return Values(values, np.repeat(np.arange(units), answers), units)


def pooled(treatment: Sample, control: Sample) -> tuple[Sample, np.ndarray]:
    """Both arms' numerators as one sample, and whether each unit is in the treatment."""
    numbers = np.concatenate((treatment.numerator, control.numerator))
    return Sample(numbers), np.arange(len(numbers)) < len(treatment.numerator)
