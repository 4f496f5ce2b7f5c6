"""Readings of a world that is known: what its units did each day, without any log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.metric import Metric
from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.readings import Counts, DayCount, Latency, Readings
from abtest.analysis.readings.subject import Subject
from abtest.analysis.sample import Float64, Sample, Values

FIRST_DAY = date(2026, 1, 1)
METRICS: Mapping[str, Metric] = load_metrics()


@dataclass(frozen=True)
class Crowd:
    """Units of one variant."""

    first_day: NDArray[np.int64]
    """[U] Day of the first exposure, from 0."""
    revenue: Float64
    """[U, days] Currency units by unit and day."""
    requests: Float64
    """[U, days]"""
    latency_ms: Float64
    """[U] Of each request of a unit."""
    segment: NDArray[np.str_]
    """[U] Value of the field `country`."""


@dataclass(frozen=True)
class MadeReadings(Readings):
    """Readings of crowds; revenue, requests, and latency can be asked for."""

    crowds: Mapping[str, Crowd] = field(default_factory=dict)

    def sample(
        self,
        metric: Metric,
        variant: str,
        *,
        segment: tuple[str, str] | None = None,
        until: date | None = None,
        since: date | None = None,
    ) -> Sample:
        crowd = self.crowds[variant]
        chosen, days = self._cut(crowd, segment, until, since)
        revenue = crowd.revenue[chosen, days].sum(axis=1)
        requests = crowd.requests[chosen, days].sum(axis=1)
        match metric.name:
            case "requests_per_unit":
                return Sample(requests)
            case "degraded_share":
                return Sample(np.zeros_like(requests), requests)
            case "latency_mean":
                return Sample(requests * crowd.latency_ms[chosen], requests)
            case "revenue_per_1000_items":
                return Sample(revenue, 20 * requests)
            case _:
                return Sample(revenue)

    def values(
        self,
        metric: Metric,
        variant: str,
        *,
        segment: tuple[str, str] | None = None,
        until: date | None = None,
        since: date | None = None,
    ) -> Values:
        del metric
        crowd = self.crowds[variant]
        chosen, days = self._cut(crowd, segment, until, since)
        requests = crowd.requests[chosen, days].sum(axis=1).astype(np.int64)
        units = np.repeat(np.arange(len(requests)), requests)
        noise = np.random.default_rng(len(units)).lognormal(0, 0.3, len(units))
        return Values(crowd.latency_ms[chosen][units] * noise, units, len(requests))

    def segment_values(self, field: str) -> dict[str, int]:
        del field
        names = np.concatenate([crowd.segment for crowd in self.crowds.values()])
        values, counts = np.unique(names, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return {str(values[at]): int(counts[at]) for at in order}

    def until(self, days: int) -> "MadeReadings":
        """What would have been read when so many days were over."""
        crowds = {
            name: Crowd(
                first_day=each.first_day[each.first_day < days],
                revenue=each.revenue[each.first_day < days, :days],
                requests=each.requests[each.first_day < days, :days],
                latency_ms=each.latency_ms[each.first_day < days],
                segment=each.segment[each.first_day < days],
            )
            for name, each in self.crowds.items()
        }
        return readings(crowds)

    def _cut(
        self,
        crowd: Crowd,
        segment: tuple[str, str] | None,
        until: date | None,
        since: date | None,
    ) -> tuple[NDArray[np.bool_], slice]:
        last = len(self.days) - 1 if until is None else (until - FIRST_DAY).days
        first = 0 if since is None else (since - FIRST_DAY).days
        chosen = crowd.first_day <= last
        if segment is not None:
            chosen &= crowd.segment == segment[1]
        return chosen, slice(first, last + 1)


def crowd(
    units: int, days: int, rng: np.random.Generator, *, uplift: float = 1.0, latency_ms: float = 9.0
) -> Crowd:
    """Units that come evenly over the days and buy now and then, for heavy-tailed amounts."""
    first_day = rng.integers(0, days, units)
    there = np.arange(days) >= first_day[:, None]
    requests = rng.poisson(0.4, (units, days)) * there
    requests[np.arange(units), first_day] += 1
    buys = rng.random((units, days)) < 0.1
    revenue = requests * buys * rng.lognormal(2, 0.8, (units, days)) * uplift
    return Crowd(
        first_day=first_day,
        revenue=revenue,
        requests=requests.astype(np.float64),
        latency_ms=latency_ms * rng.lognormal(0, 0.2, units),
        segment=rng.choice(["DE", "AT", "CH", "FR"], units, p=[0.5, 0.2, 0.2, 0.1]),
    )


def readings(
    crowds: Mapping[str, Crowd], *, crossed: int = 0, forced: int = 0, clustered: bool = False
) -> MadeReadings:
    """Readings of these crowds, by variant."""
    days = next(iter(crowds.values())).revenue.shape[1]
    return MadeReadings(
        subject=Subject("new-vs-old", 1, tuple(crowds)),
        counts={name: _counts(each) for name, each in crowds.items()},
        days=tuple(FIRST_DAY + timedelta(days=day) for day in range(days)),
        currency="USD",
        crossed_units=crossed,
        forced_units=forced,
        unexposed_feedback=0,
        clustered=clustered,
        crowds=crowds,
    )


def after(days: int) -> datetime:
    """Noon of the day that comes after so many."""
    return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=days)


def _counts(each: Crowd) -> Counts:
    requests = int(each.requests.sum())
    micros = [round(1e6 * total) for total in each.revenue.sum(axis=0)]
    new = np.bincount(each.first_day, minlength=each.revenue.shape[1])
    latency = None
    if requests:
        latency = Latency(*map(float, np.quantile(each.latency_ms, [0.5, 0.95, 0.99])))
    return Counts(
        units=len(each.first_day),
        requests=requests,
        items=20 * requests,
        seen_items=6 * requests,
        clicked_items=requests,
        bought_items=int((each.revenue > 0).sum()),
        revenue_micros=sum(micros),
        latency=latency,
        days=_days(new, micros),
    )


def _days(new: NDArray[np.int64], micros: Sequence[int]) -> tuple[DayCount, ...]:
    return tuple(
        DayCount(FIRST_DAY + timedelta(days=day), int(units), amount)
        for day, (units, amount) in enumerate(zip(new, micros, strict=True))
    )
