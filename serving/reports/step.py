"""Step: makes the reports that are due, and ends experiments whose guardrails are broken."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.currency import load_currencies
from abtest.report.index import read_report
from abtest.report.making import Archive, refresh
from abtest.report.model import Report
from abtest.split.config import ExperimentConfig, load_config
from abtest.split.experiment import State
from serving.experiments.store import VersionStore
from serving.reports.stopping import stop_broken
from serving.settings import Settings
from serving.state.store import Store

MADE = "reports"
"""Counted: reports that were made."""
FAULTS = "report_faults"
"""Counted: reports that cannot be made now."""
STOPPED = "stopped_experiments"
"""Counted: experiments that were ended for a broken guardrail."""


def open_archive(settings: Settings) -> Archive:
    """What reports of a data directory are made from.

    Raises:
        MetricError, CurrencyError: metrics.toml or currencies.toml of the data directory is wrong.
    """
    return Archive(
        events=settings.events_dir,
        rollups=settings.rollups_dir,
        metrics=load_metrics(settings.metrics_path),
        currencies=load_currencies(settings.currencies_path),
    )


def make_reports(settings: Settings) -> Mapping[str, int]:
    """Make what is due.

    Raises:
        redis.RedisError: the store is away, so it is not known which experiments are in force.
        ExperimentError, MetricError, CurrencyError: a declaration cannot be read.
    """
    return asyncio.run(_make_reports(settings))


async def _make_reports(settings: Settings) -> Mapping[str, int]:
    with Store(settings, may_be_away=True, may_start=False) as store:
        async with store.client() as client:
            versions = VersionStore(client)
            newest = await versions.newest()
            config = load_config(settings.experiments_path) if newest is None else newest.config
            done = refresh(
                open_archive(settings), config, settings.reports_dir, as_of=datetime.now(UTC)
            )
            # Also those of earlier runs: one of them may have ended before it could stop anything.
            watched = tuple(_watched(config, settings))
            stopped = await stop_broken(versions, watched, lambda: datetime.now(UTC))
    return {MADE: len(done.made), FAULTS: len(done.faults), STOPPED: len(stopped)}


def _watched(config: ExperimentConfig, settings: Settings) -> Iterator[Report]:
    """Reports of running experiments that have guardrails."""
    for experiment in config.experiments():
        if experiment.state is State.RUNNING and experiment.guardrails:
            report = read_report(settings.reports_dir, experiment.key)
            if report is not None:
                yield report
