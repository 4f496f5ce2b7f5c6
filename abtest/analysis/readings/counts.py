"""Counts: what a variant did, in whole numbers."""

from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

import numpy as np

from abtest.analysis.metric import Measure
from abtest.analysis.readings.exposure import REFUNDS
from abtest.analysis.readings.panel import Bool, Panel, day_of
from abtest.analysis.readings.tally import (
    BOUGHT,
    CLICKED,
    DEGRADED,
    ITEMS,
    LATENCY,
    REQUESTS,
    REVENUE,
    SEEN,
    name_of,
)

_PERCENTILES: Final = (50, 95, 99)


class Latency(NamedTuple):
    """Percentiles of the time an answer took inside the server."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class DayCount(NamedTuple):
    """One day (UTC) of a variant."""

    day: date
    new_units: int
    """Units first exposed on it."""
    revenue_micros: int


@dataclass(frozen=True)
class Counts:
    """What one variant did; an item counts once an answer, however often it was taken."""

    units: int = 0
    requests: int = 0
    items: int = 0
    """Recommended."""
    seen_items: int = 0
    clicked_items: int = 0
    bought_items: int = 0
    """Refunds do not take them back."""
    revenue_micros: int = 0
    """Refunds are taken off."""
    refunds: int = 0
    degraded: int = 0
    """Answers that were degraded."""
    latency: Latency | None = None
    """None without answers."""
    days: tuple[DayCount, ...] = ()
    """Days with new units or revenue."""


def count(panel: Panel, chosen: Bool) -> Counts:
    """What the chosen units did.

    Args:
        panel: of U units.
        chosen: [U] units.
    """
    mine = chosen[panel.rows.unit]

    def total(measure: Measure) -> int:
        return int(panel.rows.numbers[name_of(measure)][mine].sum())

    return Counts(
        units=int(chosen.sum()),
        requests=total(REQUESTS),
        items=total(ITEMS),
        seen_items=total(SEEN),
        clicked_items=total(CLICKED),
        bought_items=total(BOUGHT),
        revenue_micros=total(REVENUE),
        refunds=int(panel.rows.numbers[REFUNDS][mine].sum()),
        degraded=total(DEGRADED),
        latency=_latency(panel, chosen),
        days=_days(panel, chosen),
    )


def _latency(panel: Panel, chosen: Bool) -> Latency | None:
    listed = panel.listed[name_of(LATENCY)]
    found = listed.value[chosen[listed.unit]]
    return Latency(*(np.percentile(found, _PERCENTILES) / 1000).tolist()) if len(found) else None


def _days(panel: Panel, chosen: Bool) -> tuple[DayCount, ...]:
    if not chosen.any():
        return ()
    mine = chosen[panel.rows.unit]
    first = int(panel.first_day.min())
    length = int(panel.rows.day.max()) - first + 1
    new = np.bincount(panel.first_day[chosen] - first, minlength=length)
    micros = np.zeros(length, np.int64)
    revenue = panel.rows.numbers[name_of(REVENUE)][mine]
    np.add.at(micros, panel.rows.day[mine] - first, revenue)
    return tuple(
        DayCount(day_of(first + day), int(new[day]), int(micros[day]))
        for day in range(length)
        if new[day] or micros[day]
    )
