"""Timeline: where an experiment stood at the end of each day, and when its plan was reached."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import accumulate

from abtest.analysis.metric import Metric
from abtest.analysis.readings.readings import Counts, Readings
from abtest.analysis.statistics.effect import DayEffect
from abtest.report.effects import effect_of
from abtest.report.evidence import FULL_WEEK_DAYS
from abtest.report.model import Day
from abtest.report.trial import Trial

MAX_DAYS = 60
"""Days of the timeline; of a longer experiment every second, third, ... is told, and the last."""


def shown_days(days: Sequence[date]) -> tuple[date, ...]:
    """The last day, and every so many before it."""
    step = -(-len(days) // MAX_DAYS)
    return tuple(reversed(days[::-1][:: max(1, step)]))


def timeline(readings: Readings, trial: Trial, metric: Metric) -> Iterator[DayEffect]:
    """The primary metric at the end of every shown day, variant by variant within the day."""
    for day in shown_days(readings.days):
        for variant in trial.variants:
            until = effect_of(readings, trial, metric, variant, until=day)
            if until is None:
                continue
            alone = effect_of(readings, trial, metric, variant, until=day, since=day)
            yield DayEffect(
                day=day,
                variant=variant,
                units=until.units,
                absolute=until.absolute,
                interval=until.interval,
                always_valid=until.always_valid,
                that_day=None if alone is None else alone.absolute,
            )


def planned_day(readings: Readings, planned_units: int | None, as_of: datetime) -> date | None:
    """The first day at whose end the planned units had come, a full week after the first at least.

    Args:
        readings: of the trial.
        planned_units: None where none are planned.
        as_of: now; a day that is not over yet does not count, as its result would still move.
    """
    if planned_units is None or not readings.days:
        return None
    new = dict.fromkeys(readings.days, 0)
    for counts in readings.counts.values():
        for count in counts.days:
            new[count.day] += count.new_units
    week = readings.days[0] + timedelta(days=FULL_WEEK_DAYS - 1)
    for day, units in zip(new, accumulate(new.values()), strict=True):
        if units >= planned_units and day >= week:
            return day if day < as_of.date() else None
    return None


def running(counts: Counts, days: Sequence[date]) -> tuple[Day, ...]:
    """A variant's totals so far at the end of each of `days`, from the first with units."""
    by_day = {count.day: count for count in counts.days}
    units = micros = 0
    told = []
    for day in days:
        if day in by_day:
            units += by_day[day].new_units
            micros += by_day[day].revenue_micros
        if units:
            told.append(Day(day=day, units=units, revenue_per_unit=micros / units / 10**6))
    return tuple(told)
