"""Arms: what each variant did, in numbers, before any comparison."""

from collections.abc import Mapping

from scipy.stats import t as student

from abtest.analysis.metric import Measure, Metric, Value
from abtest.analysis.readings.readings import Counts, Readings
from abtest.analysis.sample import Float64
from abtest.analysis.statistics.effect import CONFIDENCE, Interval
from abtest.report.model import Arm, Latency
from abtest.report.timeline import running, shown_days
from abtest.report.trial import REVENUE, Trial

_ALL_REVENUE = Measure(event="conversion", value=Value.REVENUE)


def arms_of(readings: Readings, trial: Trial, metrics: Mapping[str, Metric]) -> tuple[Arm, ...]:
    """Every variant, in the order of the configuration."""
    return tuple(_arm(name, weight, readings, metrics) for name, weight in trial.weights.items())


def _arm(name: str, weight: float, readings: Readings, metrics: Mapping[str, Metric]) -> Arm:
    found: Counts = readings.counts[name]
    revenue = found.revenue_micros / 10**6
    return Arm(
        name=name,
        weight=weight,
        units=found.units,
        requests=found.requests,
        items=found.items,
        seen_items=found.seen_items,
        clicked_items=found.clicked_items,
        bought_items=found.bought_items,
        revenue_micros=found.revenue_micros,
        revenue_per_unit=found.revenue_micros / (found.units * 10**6) if found.units else 0.0,
        revenue_per_unit_interval=_revenue_interval(name, readings, metrics.get(REVENUE)),
        revenue_per_1000_items=_per(1000 * revenue, found.items),
        click_rate=_per(found.clicked_items, found.items),
        conversion_rate=_per(found.bought_items, found.items),
        bought_per_request=_per(found.bought_items, found.requests),
        latency=None if found.latency is None else Latency(**found.latency._asdict()),
        degraded_share=_per(found.degraded, found.requests),
        days=running(found, shown_days(readings.days)),
    )


def _per(amount: float, count: int) -> float:
    return amount / count if count else 0.0


def _revenue_interval(name: str, readings: Readings, metric: Metric | None) -> Interval | None:
    """Of all revenue; None where the installation made something else of that metric."""
    if metric is None or metric.window_days is not None or metric.numerator != _ALL_REVENUE:
        return None
    return mean_interval(readings.sample(metric, name).numerator)


def mean_interval(values: Float64) -> Interval | None:
    """Student's interval of a mean; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    error = float(values.std(ddof=1)) / count**0.5
    half = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    mean = float(values.mean())
    return Interval(low=mean - half, high=mean + half)
