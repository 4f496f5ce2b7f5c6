"""Steps: what the background process does, in this order, each at its interval.

A step may be ended at any point by a kill, and is then begun anew: whatever it writes, it writes
beside the final name and renames. A step that raises is told of and runs again at its next turn.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import redis

from serving.settings import Settings

ERASE_INTERVAL_S = 2.0
COMPACT_INTERVAL_S = 600.0
ARCHIVED_EVENTS = "archived_events"
"""Counted by the step `archive`: events moved from the stream into files."""


class Place(NamedTuple):
    """What a step works on."""

    settings: Settings
    store: redis.Redis
    """A blocking client; bytes, not text."""


class Step(NamedTuple):
    """One kind of work."""

    name: str
    interval_s: float
    run: Callable[[Place], Mapping[str, int]]
    """Does what there is to do; says how much of what it did."""


def steps(settings: Settings) -> tuple[Step, ...]:
    """All steps, in the order in which those run that are due together."""
    return (
        Step("erase", ERASE_INTERVAL_S, _erase),
        Step("archive", settings.archive_interval_s, _archive),
        Step("report", settings.report_interval_s, _report),
        Step("compact", COMPACT_INTERVAL_S, _compact),
        Step("retain", COMPACT_INTERVAL_S, _retain),
    )


# Libraries are imported where they are used: a step that has nothing to do loads nothing.


def _archive(place: Place) -> Mapping[str, int]:
    from abtest.log.archive import archive

    return {ARCHIVED_EVENTS: archive(place.store, place.settings.events_dir)}


def _report(place: Place) -> Mapping[str, int]:
    if not any(place.settings.events_dir.glob("day=*/*.parquet")):
        return {}
    from serving.reports.step import make_reports

    return make_reports(place.settings)


def _compact(place: Place) -> Mapping[str, int]:
    from abtest.log.compaction import compact

    # An hour after the end of a day most of what is late is there.
    over = (datetime.now(UTC) - timedelta(hours=1)).date()
    return {"replaced_files": compact(place.store, place.settings.events_dir, over)}


def _retain(place: Place) -> Mapping[str, int]:
    from abtest.log.retention import drop_days

    kept_days = place.settings.retention_days
    if kept_days is None:
        return {}
    before = datetime.now(UTC).date() - timedelta(days=kept_days)
    return {"dropped_files": drop_days(place.store, place.settings.events_dir, before)}


def _erase(place: Place) -> Mapping[str, int]:
    from abtest.analysis.metrics_file import load_metrics
    from abtest.analysis.readings.currency import load_currencies
    from abtest.analysis.readings.rollup import update
    from serving.background.erasing import complete_erasures

    def refresh() -> None:
        settings = place.settings
        update(
            settings.events_dir,
            settings.rollups_dir,
            load_metrics(settings.metrics_path),
            currencies=load_currencies(settings.currencies_path),
        )

    return complete_erasures(place.settings, place.store, refresh, lambda: time.time_ns() // 1000)
