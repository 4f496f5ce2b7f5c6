"""Rollup: what reports need of the archive, small, and made once.

Each day has parts, and each archived file is in one of them. New files become a part of their own
and take in parts that are no larger, so that a day has few parts and no event is rolled up often.
Files that hold the same event are always in one part, which counts it once. A part whose files are
gone or changed, or that was made for other metrics, is dropped and its files are rolled up anew.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from abtest.analysis.metric import Metric
from abtest.analysis.readings import part as parts_of
from abtest.analysis.readings import repeats
from abtest.analysis.readings.currency import Currencies, DayRates
from abtest.analysis.readings.part import Job, Part
from abtest.analysis.readings.source import Source, day_folder, paths, sources, unchanged
from abtest.analysis.readings.tally import Tallies, tallies

Progress = Callable[[int, int], None]
"""Told how many archived files of how many are rolled up."""

FORMAT: Final = 1
_LOCK: Final = ".lock"
_SPILL: Final = ".spill"
_MEMORY: Final = "2GB"
"""Beyond it DuckDB goes on on disk."""
_ATTEMPTS: Final = 5

_NEW = "SELECT count(*), min(event_ts_us), max(event_ts_us) FROM new_files"
# An event that stands in two files happened once: the range lets DuckDB skip most of what is there.
_SHARED = """
SELECT DISTINCT parse_filename(filename) FROM covered_files
WHERE event_ts_us BETWEEN $first AND $last AND event_id IN (SELECT event_id FROM new_files)
"""


class RollupError(RuntimeError):
    """The archive could not be rolled up; the message says why and what to do."""


class Rollups(NamedTuple):
    """Every archived event, rolled up."""

    parts: tuple[Part, ...]
    repeats: Path
    kept: Tallies


class _Plan(NamedTuple):
    folder: Path
    rollups: Path
    kept: Tallies
    currencies: Currencies | None

    def recipe(self, day: date) -> str:
        """Names how a day's parts are made: other measures or rates make other parts."""
        rates = self.rates(day)
        made_by = {
            "format": FORMAT,
            "duckdb": duckdb.__version__,
            "sums": [tally.name for tally in self.kept.sums],
            "items": [tally.name for tally in self.kept.items],
            "values": [tally.name for tally in self.kept.values],
            "rates": None if rates is None else [rates.report, dict(rates.scaled)],
        }
        return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]

    def rates(self, day: date) -> DayRates | None:
        """Exchange rates of a day."""
        return None if self.currencies is None else self.currencies.on(day)


@contextmanager
def rolled_up(
    folder: Path,
    rollups: Path,
    metrics: Mapping[str, Metric],
    *,
    currencies: Currencies | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Rollups, duckdb.DuckDBPyConnection]]:
    """Bring the rollups up to date, and keep them as they are while they are read.

    One process works on the rollups at a time; others wait.

    Args:
        folder: the archived events.
        rollups: folder of the rollups, made if missing.
        metrics: all that are in force.
        currencies: what revenue is converted by; None where it stays as it is.
        progress: told how far it is.

    Raises:
        MetricError: the metrics count too many different kinds of items.
        RollupError: archived files went on changing while they were read.
    """
    rollups.mkdir(parents=True, exist_ok=True)
    plan = _Plan(folder, rollups, tallies(metrics), currencies)
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(rollups / _SPILL),
    }
    with (rollups / _LOCK).open("w") as lock, duckdb.connect(config=config) as connection:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parts = _update(connection, plan, progress)
        found = repeats.find(connection, parts, plan.kept, rollups) if parts else rollups
        yield Rollups(tuple(parts), found, plan.kept), connection


def update(
    folder: Path,
    rollups: Path,
    metrics: Mapping[str, Metric],
    *,
    currencies: Currencies | None = None,
    progress: Progress | None = None,
) -> int:
    """Bring the rollups up to date; returns how many parts there are. See `rolled_up`."""
    with rolled_up(folder, rollups, metrics, currencies=currencies, progress=progress) as (
        found,
        _,
    ):
        return len(found.parts)


def _update(
    connection: duckdb.DuckDBPyConnection, plan: _Plan, progress: Progress | None
) -> list[Part]:
    archived = sources(plan.folder)
    known = _known(plan, archived)
    total = sum(len(files) for files in archived.values())
    done = sum(len(part.sources) for part in known)
    parts: list[Part] = []
    for day, files in archived.items():
        covered = [part for part in known if part.day == day]
        missing = len(files) - sum(len(part.sources) for part in covered)
        parts += _update_day(connection, plan, day, files, covered)
        done += missing
        if progress is not None and missing:
            progress(done, total)
    _drop_others(plan.rollups, parts)
    return parts


def _known(plan: _Plan, archived: Mapping[date, frozenset[Source]]) -> list[Part]:
    """The parts that are of use; after a crash a part may stand beside one that took it in."""
    found = (parts_of.load(folder) for folder in plan.rollups.glob("day=*/*") if folder.is_dir())
    taken: set[tuple[date, Source]] = set()
    useful = []
    for part in sorted(filter(None, found), key=lambda part: (-len(part.sources), part.id)):
        files = {(part.day, source) for source in part.sources}
        complete = part.sources <= archived.get(part.day, frozenset())
        if complete and part.recipe == plan.recipe(part.day) and not files & taken:
            taken |= files
            useful.append(part)
    return useful


def _update_day(
    connection: duckdb.DuckDBPyConnection,
    plan: _Plan,
    day: date,
    files: frozenset[Source],
    known: list[Part],
) -> list[Part]:
    """The parts of a day; the archive may be compacted or erased from meanwhile."""
    for _ in range(_ATTEMPTS):
        kept = [part for part in known if part.sources <= files]
        new = files - {source for part in kept for source in part.sources}
        if not new:
            return kept
        try:
            taken_in = _to_take_in(connection, plan, day, new, kept)
            job = _job(plan, day, new.union(*(part.sources for part in taken_in)))
            made = parts_of.write(connection, job, plan.kept, _place(plan, job))
        except duckdb.IOException:
            if unchanged(plan.folder, day, files):
                raise
        else:
            if unchanged(plan.folder, day, job.sources):
                return [*(part for part in kept if part not in taken_in), made]
        files = sources(plan.folder).get(day, frozenset())
    raise RollupError(
        f"archived files of {day} in {plan.folder} changed {_ATTEMPTS} times while they were read; "
        "try again when nothing else works on the archive"
    )


def _to_take_in(
    connection: duckdb.DuckDBPyConnection,
    plan: _Plan,
    day: date,
    new: frozenset[Source],
    kept: list[Part],
) -> list[Part]:
    """Parts that hold one of the new events, and those that are no larger than what comes."""
    if not kept:
        return []
    covered = [source for part in kept for source in part.sources]
    for name, files in (("new_files", new), ("covered_files", covered)):
        relation = connection.read_parquet(
            paths(plan.folder, day, files),
            union_by_name=True,
            hive_partitioning=False,
            filename=True,
        )
        relation.create_view(name, replace=True)
    ((events, first, last),) = connection.execute(_NEW).fetchall()
    found = connection.execute(_SHARED, {"first": first, "last": last}).fetchall()
    shared = {name for (name,) in found}
    taken_in = []
    for part in sorted(kept, key=lambda part: (part.events, part.id)):
        if part.events <= events or any(source.name in shared for source in part.sources):
            taken_in.append(part)
            events += part.events
    return taken_in


def _job(plan: _Plan, day: date, files: frozenset[Source]) -> Job:
    recipe = plan.recipe(day)
    text = json.dumps([recipe, str(day), sorted(files)])
    number = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
    return Job(day, files, paths(plan.folder, day, files), recipe, plan.rates(day), number)


def _place(plan: _Plan, job: Job) -> Path:
    return day_folder(plan.rollups, job.day) / f"{job.id:015x}"


def _drop_others(rollups: Path, parts: list[Part]) -> None:
    kept = {part.folder for part in parts}
    for day in rollups.glob("day=*"):
        for folder in day.iterdir():
            if folder not in kept:
                shutil.rmtree(folder)
        if not any(day.iterdir()):
            day.rmdir()
