"""Panel: units with their first exposure, and their whole numbers a day, in numpy.

Legend: U units sorted by name, R rows sorted by unit and day, V values sorted by unit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.metric import Kind, Measure, Metric, MetricError, Value
from abtest.analysis.readings.tally import name_of
from abtest.analysis.sample import Float64, Int64, Sample, Values

T = TypeVar("T")
Bool = NDArray[np.bool_]

EPOCH: Final = date(1970, 1, 1)
_DIVISORS: Final = {Value.REVENUE: 1e6, Value.LATENCY: 1e3}
"""Micros to currency units, microseconds to milliseconds."""


class Rows(NamedTuple):
    """Numbers of units by day; a day without events has no row."""

    unit: Int64
    """[R] Index of the unit."""
    starts: Int64
    """[U + 1] First row of each unit, and R."""
    day: Int64
    """[R] Days since the Unix epoch."""
    numbers: Mapping[str, Int64]
    """[R] By column of the rollup."""


class Listed(NamedTuple):
    """Values that are kept one by one, of one measure."""

    unit: Int64
    """[V] Index of the unit."""
    day: Int64
    """[V] Days since the Unix epoch."""
    value: Int64
    """[V] Micros or microseconds."""


@dataclass(frozen=True)
class Panel:
    """What is known of the units of a comparison; nothing in it is from before an exposure."""

    units: tuple[str, ...]
    """[U] Names, sorted."""
    first_day: Int64
    """[U] Day of the first exposure, days since the Unix epoch."""
    contexts: tuple[str, ...]
    """Different contexts, as JSON."""
    context: Int64
    """[U] Index of the context of the unit's first exposure."""
    rows: Rows
    """From the first exposure's day on."""
    before: Rows
    """From the days before, all traffic of the unit."""
    listed: Mapping[str, Listed]
    """By column of the rollup."""

    def sample(
        self, metric: Metric, chosen: Bool, since: date | None, until: date | None
    ) -> Sample:
        """Numbers of the chosen units.

        Args:
            metric: a mean or a ratio.
            chosen: [U] units.
            since: first day of events.
            until: last day of events.

        Raises:
            MetricError: it is a quantile, or was not read.
        """
        if metric.kind is Kind.QUANTILE:
            raise MetricError(f"metric {metric.name} is a quantile; take its values")
        inside = self._inside(metric, self.rows.unit, self.rows.day, since, until)
        earlier = self._earlier(metric)
        below = metric.denominator
        return Sample(
            numerator=self._totals(metric.numerator, self.rows, inside, chosen),
            denominator=None if below is None else self._totals(below, self.rows, inside, chosen),
            covariate=None
            if earlier is None
            else self._totals(metric.numerator, self.before, earlier, chosen),
            covariate_denominator=None
            if below is None or earlier is None
            else self._totals(below, self.before, earlier, chosen),
        )

    def values(
        self, metric: Metric, chosen: Bool, since: date | None, until: date | None
    ) -> Values:
        """Values of the chosen units, in the order of units and then of size.

        Raises:
            MetricError: the metric is no quantile, or was not read.
        """
        if metric.kind is not Kind.QUANTILE:
            raise MetricError(f"metric {metric.name} is a {metric.kind}; take its sample")
        listed = _of(self.listed, metric.numerator)
        inside = self._inside(metric, listed.unit, listed.day, since, until) & chosen[listed.unit]
        number = np.cumsum(chosen) - 1
        values = _in_units(metric.numerator, listed.value[inside])
        return Values(values, number[listed.unit[inside]], int(chosen.sum()))

    def _inside(
        self, metric: Metric, unit: Int64, day: Int64, since: date | None, until: date | None
    ) -> Bool:
        inside = np.ones(len(unit), np.bool_)
        if metric.window_days is not None:
            inside &= day < self.first_day[unit] + metric.window_days
        if since is not None:
            inside &= day >= number_of(since)
        if until is not None:
            inside &= day <= number_of(until)
        return inside

    def _earlier(self, metric: Metric) -> Bool | None:
        """Rows of the covariate; None where no unit was there before, so that it tells nothing."""
        if not metric.covariate_days or not len(self.before.unit):
            return None
        first = self.first_day[self.before.unit]
        return self.before.day >= first - metric.covariate_days

    def _totals(self, measure: Measure, rows: Rows, inside: Bool, chosen: Bool) -> Float64:
        running = np.zeros(len(rows.unit) + 1, np.int64)
        np.cumsum(_of(rows.numbers, measure) * inside, out=running[1:])
        totals = running[rows.starts[1:]] - running[rows.starts[:-1]]
        return _in_units(measure, totals[chosen])


_NONE: Final[Int64] = np.zeros(0, np.int64)
_NO_ROWS: Final = Rows(_NONE, np.zeros(1, np.int64), _NONE, {})
NOBODY: Final = Panel((), _NONE, (), _NONE, _NO_ROWS, _NO_ROWS, {})
"""No units."""


def number_of(day: date) -> int:
    """Days since the Unix epoch."""
    return (day - EPOCH).days


def day_of(number: int) -> date:
    """The day, so many days since the Unix epoch."""
    return EPOCH + timedelta(days=int(number))


def _in_units(measure: Measure, numbers: Int64) -> Float64:
    return numbers / _DIVISORS.get(measure.value, 1.0)


def _of(columns: Mapping[str, T], measure: Measure) -> T:
    name = name_of(measure)
    if name not in columns:
        raise MetricError(
            f"measure {name} was not read; known are {sorted(columns)}, so read with the metrics "
            "that ask for it"
        )
    return columns[name]
