"""Readings: what the archived events say about each variant, before any statistics."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from abtest.analysis.metric import Metric
from abtest.analysis.readings.counts import Counts, DayCount, Latency, count
from abtest.analysis.readings.currency import Currencies
from abtest.analysis.readings.exposure import Exposed, exposed
from abtest.analysis.readings.panel import NOBODY, Bool, Panel, day_of, number_of
from abtest.analysis.readings.rollup import Progress, Rollups, rolled_up
from abtest.analysis.readings.subject import Subject
from abtest.analysis.sample import Int64, Sample, Values

__all__ = ["Counts", "DayCount", "Latency", "Progress", "Readings", "ReadingsError", "read"]


class ReadingsError(ValueError):
    """Events that cannot be compared; the message says what is wrong and the remedy."""


@dataclass(frozen=True)
class Readings:
    """Everything that a report needs; crossed and forced units are left out of all of it."""

    subject: Subject
    counts: Mapping[str, Counts]
    """By variant, in the order of the configuration; every variant is there."""
    days: tuple[date, ...]
    """Every calendar day (UTC) from the first exposure to the last event."""
    currency: str | None
    """None as long as nothing was bought."""
    crossed_units: int
    """Seen in more than one variant; left out."""
    forced_units: int
    """Put into a variant by configuration at least once; left out."""
    unexposed_feedback: int
    """Events of feedback that name this revision without an exposure of their unit before that day,
    and those of exposed units about answers that were not split by it."""
    clustered: bool
    """The units are periods of a switchback; there are no covariates."""
    panel: Panel = field(default=NOBODY, repr=False)
    """Of all variants."""
    variant: Int64 = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    """[U] Index of each unit's variant among the subject's."""

    def sample(
        self,
        metric: Metric,
        variant: str,
        *,
        segment: tuple[str, str] | None = None,
        until: date | None = None,
        since: date | None = None,
    ) -> Sample:
        """A mean's or ratio's numbers, a unit each, sorted by name.

        Args:
            metric: among those that were read.
            variant: one of the subject's.
            segment: field of the context and its value at the unit's first exposure.
            until: only units exposed by the end of that day, and events by then.
            since: only events from that day on, of all these units.

        Raises:
            MetricError: the metric is a quantile, or was not read.
        """
        chosen = self._chosen(variant, segment, until)
        return self.panel.sample(metric, chosen, since, until)

    def values(
        self,
        metric: Metric,
        variant: str,
        *,
        segment: tuple[str, str] | None = None,
        until: date | None = None,
        since: date | None = None,
    ) -> Values:
        """A quantile's values; units are numbered in the order of their names. See `sample`."""
        chosen = self._chosen(variant, segment, until)
        return self.panel.values(metric, chosen, since, until)

    def segment_values(self, field: str) -> dict[str, int]:
        """Units of all variants by the field's value at first exposure, the most frequent first.

        Units that did not have the field are not among them.
        """
        found: Counter[str] = Counter()
        units = np.bincount(self.panel.context, minlength=len(self.panel.contexts))
        for text, number in zip(self.panel.contexts, units.tolist(), strict=True):
            value = json.loads(text).get(field)
            if value is not None:
                found[value] += number
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def _chosen(self, variant: str, segment: tuple[str, str] | None, until: date | None) -> Bool:
        chosen: Bool = self.variant == self.subject.variants.index(variant)
        if until is not None:
            chosen &= self.panel.first_day <= number_of(until)
        if segment is not None:
            field, value = segment
            fits = [json.loads(text).get(field) == value for text in self.panel.contexts]
            chosen &= np.array(fits, np.bool_)[self.panel.context]
        return chosen


def read(
    folder: Path,
    rollups: Path,
    subject: Subject,
    metrics: Mapping[str, Metric],
    *,
    currencies: Currencies | None = None,
    progress: Progress | None = None,
) -> Readings:
    """Bring the rollups up to date, and read what they say about a comparison.

    Args:
        folder: the archived events.
        rollups: folder of the rollups, made if missing.
        subject: `of_experiment` or `of_holdout` of abtest.analysis.readings.subject.
        metrics: all that are in force (`load_metrics`), as rollups are made for all of them.
        currencies: exchange rates (`load_currencies`); None where revenue has one currency.
        progress: told what is rolled up.

    Raises:
        ReadingsError: no archived events, none of this revision, a variant that the configuration
            does not have, or revenue in several currencies.
        RollupError: archived files went on changing while they were read.
    """
    before_days = max((metric.covariate_days for metric in metrics.values()), default=0)
    with rolled_up(folder, rollups, metrics, currencies=currencies, progress=progress) as (
        found,
        connection,
    ):
        _check_parts(folder, found)
        units = exposed(connection, found, subject, before_days)
    _check(folder, subject, units)
    currency = _currency(subject, units, currencies)
    return _readings(subject, units, currency)


def _check_parts(folder: Path, found: Rollups) -> None:
    if not found.parts:
        raise ReadingsError(
            f"{folder} holds no archived events; serve traffic and archive it first, "
            "or name the folder it was archived in"
        )


def _check(folder: Path, subject: Subject, units: Exposed) -> None:
    about = f"{subject.key} revision {subject.revision}"
    unknown = sorted(set(units.variants) - set(subject.variants))
    if unknown:
        raise ReadingsError(
            f"answers of {about} have variants {unknown}, its configuration has "
            f"{list(subject.variants)}; other variants need a new revision"
        )
    if not (units.panel.units or units.crossed_units or units.forced_units):
        raise ReadingsError(
            f"{folder} holds no answer of {about}; serve traffic while it is running, or set the "
            "revision the traffic was split by"
        )


def _currency(subject: Subject, units: Exposed, currencies: Currencies | None) -> str | None:
    if len(units.currencies) > 1 or (currencies and {*units.currencies} - {currencies.report}):
        known = "" if currencies is None else ", not all of which have a rate on each day"
        raise ReadingsError(
            f"revenue of {subject.key} is in {list(units.currencies)}{known}; a report has one "
            "currency, give the rates in currencies.toml of the data directory"
        )
    return units.currencies[0] if units.currencies else None


def _readings(subject: Subject, units: Exposed, currency: str | None) -> Readings:
    order = np.array([subject.variants.index(name) for name in units.variants], np.int64)
    variant = order[units.variant]
    return Readings(
        subject=subject,
        counts={
            name: count(units.panel, variant == number)
            for number, name in enumerate(subject.variants)
        },
        days=_days(units.panel),
        currency=currency,
        crossed_units=units.crossed_units,
        forced_units=units.forced_units,
        unexposed_feedback=units.unexposed_feedback,
        clustered=units.clustered,
        panel=units.panel,
        variant=variant,
    )


def _days(panel: Panel) -> tuple[date, ...]:
    if not panel.units:
        return ()
    first, last = int(panel.first_day.min()), int(panel.rows.day.max())
    return tuple(day_of(number) for number in range(first, last + 1))
