"""Making: reports from the archive, one that is asked for or all that are due.

A report of an experiment that splits, and of a holdout, follows the archive. One of an experiment
that ended, or pauses, changes only by late feedback: it is made once a day (UTC).
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from abtest.analysis.metric import Metric
from abtest.analysis.readings.currency import Currencies
from abtest.analysis.readings.readings import ReadingsError, read
from abtest.analysis.readings.rollup import Progress, RollupError
from abtest.report.analysis import ReportError, analyze
from abtest.report.credits import interleaving
from abtest.report.index import Entry, Index, read_index, write_index, write_report
from abtest.report.model import Report, summarize
from abtest.report.trial import HOLDOUT, Trial, check_metrics, trials
from abtest.split.config import ExperimentConfig
from abtest.split.experiment import SPLITTING, ExperimentError


class Archive(NamedTuple):
    """Where reports come from."""

    events: Path
    """Folder of the archived events."""
    rollups: Path
    """Folder of what was added up of them."""
    metrics: Mapping[str, Metric]
    """All that are in force."""
    currencies: Currencies | None


class Refreshed(NamedTuple):
    """What one refresh did."""

    made: tuple[Report, ...]
    faults: dict[str, str]
    """Why a report could not be made, by key."""


def make(
    archive: Archive,
    trial: Trial,
    *,
    as_of: datetime,
    progress: Progress | None = None,
) -> Report:
    """Read the archive and compare the variants of a trial.

    Args:
        archive: what to read.
        trial: an experiment or a holdout.
        as_of: now, with a time zone.
        progress: told what is rolled up first.

    Raises:
        ExperimentError: a metric of the trial is not declared.
        ReadingsError: the events cannot be compared.
        RollupError: archived files went on changing while they were read.
        ReportError: every unit was seen in several variants.
    """
    check_metrics(trial, archive.metrics)
    readings = read(
        archive.events,
        archive.rollups,
        trial.subject,
        archive.metrics,
        currencies=archive.currencies,
        progress=progress,
    )
    return analyze(
        readings,
        trial,
        archive.metrics,
        as_of=as_of,
        interleaved=interleaving(archive.events, trial),
    )


def refresh(
    archive: Archive, config: ExperimentConfig, reports: Path, *, as_of: datetime
) -> Refreshed:
    """Make every report that is due, and write it with the index; each file whole or not at all.

    Args:
        archive: what to read.
        config: experiments and holdouts in force.
        reports: folder of the reports, made if missing.
        as_of: now, with a time zone.
    """
    index = read_index(reports)
    entries = dict(index.entries)
    made: list[Report] = []
    for trial, made_from in _due(archive, config, index, as_of):
        key = trial.subject.key
        before = entries.get(key)
        try:
            report = make(archive, trial, as_of=as_of)
        except (ExperimentError, ReadingsError, RollupError, ReportError) as error:
            entries[key] = Entry(
                made_from=made_from,
                summary=None if before is None else before.summary,
                fault=str(error),
            )
        else:
            write_report(reports, report)
            made.append(report)
            entries[key] = Entry(made_from=made_from, summary=summarize(report))
        write_index(reports, Index(entries=entries))
    known = {trial.subject.key for trial in trials(config)}
    faults = {
        key: entry.fault
        for key, entry in entries.items()
        if entry.fault is not None and key in known
    }
    return Refreshed(tuple(made), faults)


def _due(
    archive: Archive, config: ExperimentConfig, index: Index, as_of: datetime
) -> Iterator[tuple[Trial, str]]:
    """Trials whose reports would be other ones now, with what these are made from."""
    files = _hash(sorted(_files(archive.events)))
    rules = _hash([metric.model_dump_json() for metric in archive.metrics.values()])
    rates = "" if archive.currencies is None else archive.currencies.model_dump_json()
    for trial in trials(config):
        follows = trial.state in (*SPLITTING, HOLDOUT)
        parts = [str(as_of.date()), repr(trial), rules, rates, files if follows else ""]
        made_from = _hash(parts)
        entry = index.entries.get(trial.subject.key)
        if entry is None or entry.made_from != made_from:
            yield trial, made_from


def _files(events: Path) -> Iterator[str]:
    """Every archived file, as it is now; one may be written anew under its name."""
    for path in events.glob("day=*/*.parquet"):
        with contextlib.suppress(FileNotFoundError):  # compacted away meanwhile
            found = path.stat()
            yield f"{path.name} {found.st_size} {found.st_mtime_ns}"


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
