"""Compaction: the many small files of a day that is over become few."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
from redis import Redis

from abtest.log.archive import alone
from abtest.log.files import changing, day_of, draft_of, reading, replace, replacement_of
from abtest.log.rewriting import rewrite

MIN_FILES = 8
"""Fewer small files of a day stay as they are, so that late events do not rewrite it each time."""
MAX_EVENTS = 2_000_000
"""A file is small as long as it has less than half of this; none is made larger."""


def compact(client: Redis, folder: Path, before: date) -> int:
    """Replace small files by large ones that hold the same events.

    `archive` adds no file meanwhile. Readers see either the small files or the large one.

    Args:
        client: of the store, whose lock keeps other writers away.
        folder: of the archive.
        before: days before this one are over; late events may still come.

    Returns:
        Number of files that were replaced.

    Raises:
        ArchiveError: another writes the archive.
        FilesError: somebody reads it just when a file is ready; it is made anew the next time.
    """
    replaced = 0
    with alone(client) as lock:
        for files in _groups(folder, before, lock.reacquire):
            draft = draft_of(target := replacement_of(files))
            rewrite(files, draft, keep=lambda table: table, renew=lock.reacquire)
            lock.reacquire()
            with changing(folder):
                replace(folder, files, draft, target)
            replaced += len(files)
    return replaced


def _groups(folder: Path, before: date, renew: Callable[[], object]) -> Iterator[list[Path]]:
    days: dict[date, list[Path]] = {}
    with reading(folder) as files:
        for file in files:
            if day_of(file) < before:
                days.setdefault(day_of(file), []).append(file)
    for some in days.values():
        if len(some) >= MIN_FILES:
            yield from _grouped(list(_sized(some, renew)))


def _grouped(sized: Sequence[tuple[Path, int]]) -> Iterator[list[Path]]:
    """Small files, so many together that their events fit into one."""
    group: list[Path] = []
    total = 0
    for file, events in sized:
        if events >= MAX_EVENTS // 2:
            continue
        if total + events > MAX_EVENTS:
            yield from [group] if len(group) >= MIN_FILES else []
            group, total = [], 0
        group.append(file)
        total += events
    if len(group) >= MIN_FILES:
        yield group


def _sized(files: Sequence[Path], renew: Callable[[], object]) -> Iterator[tuple[Path, int]]:
    for file in files:
        renew()
        yield file, int(pq.read_metadata(file).num_rows)
