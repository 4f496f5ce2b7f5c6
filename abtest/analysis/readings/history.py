"""History: all traffic of some days, to plan experiments by and to try the platform out on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from abtest.analysis.metric import Metric
from abtest.analysis.readings.currency import Currencies
from abtest.analysis.readings.exposure import everybody
from abtest.analysis.readings.panel import Panel, day_of
from abtest.analysis.readings.rollup import Progress, rolled_up
from abtest.analysis.sample import Int64, Sample, Values


class HistoryError(ValueError):
    """There is no history; the message says why and the remedy."""


@dataclass(frozen=True)
class History:
    """Every unit that got an answer in these days, as if an experiment had exposed it then."""

    days: tuple[date, ...]
    """Every calendar day (UTC)."""
    panel: Panel

    @property
    def units(self) -> int:
        """Different units."""
        return len(self.panel.units)

    @property
    def first_days(self) -> Int64:
        """[U] On which of the days each unit, in the order of names, came first; from 0."""
        first = (self.days[0] - day_of(0)).days
        return self.panel.first_day - first

    def units_per_day(self) -> tuple[int, ...]:
        """Units that came for the first time on each day."""
        return tuple(np.bincount(self.first_days, minlength=len(self.days)).tolist())

    def sample(self, metric: Metric, *, until: date | None = None) -> Sample:
        """A mean's or ratio's numbers, a unit each, sorted by name; see `Readings.sample`."""
        return self.panel.sample(metric, self._chosen(until), None, until)

    def values(self, metric: Metric, *, until: date | None = None) -> Values:
        """A quantile's values."""
        return self.panel.values(metric, self._chosen(until), None, until)

    def taken(self, metric: Metric) -> Sample | Values:
        """What statistics of the metric take: `values` of a quantile, else a `sample`."""
        return self.sample(metric) if metric.quantile is None else self.values(metric)

    def _chosen(self, until: date | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        last = len(self.days) if until is None else (until - self.days[0]).days
        return self.first_days <= last


def history(
    folder: Path,
    rollups: Path,
    metrics: Mapping[str, Metric],
    *,
    days: int,
    until: date | None = None,
    currencies: Currencies | None = None,
    progress: Progress | None = None,
) -> History:
    """Bring the rollups up to date, and read all traffic of some days.

    Args:
        folder: the archived events.
        rollups: folder of the rollups, made if missing.
        metrics: all that are in force.
        days: how many, at least 1.
        until: the last of them; the last one archived if None.
        currencies: what revenue is converted by.
        progress: told what is rolled up.

    Raises:
        HistoryError: the days hold no answer, or `days` is less than 1.
        RollupError: archived files went on changing while they were read.
    """
    if days < 1:
        raise HistoryError(f"days == {days} must be 1 or more")
    before_days = max((metric.covariate_days for metric in metrics.values()), default=0)
    with rolled_up(folder, rollups, metrics, currencies=currencies, progress=progress) as (
        found,
        connection,
    ):
        if not found.parts:
            raise HistoryError(f"{folder} holds no archived events; serve traffic and archive it")
        last = until or max(part.day for part in found.parts)
        first = last - timedelta(days=days - 1)
        panel = everybody(connection, found, first, last, before_days)
    if not panel.units:
        raise HistoryError(f"{folder} holds no answer from {first} to {last}; name other days")
    return History(tuple(first + timedelta(days=day) for day in range(days)), panel)
