"""Retention: days that are no longer kept."""

from datetime import date
from pathlib import Path

from redis import Redis

from abtest.log.archive import alone
from abtest.log.files import changing, day_of, drop, reading


def drop_days(client: Redis, folder: Path, before: date) -> int:
    """Remove the events of all days before one; events of such a day that come later go, too.

    Args:
        client: of the store, whose lock keeps other writers away.
        folder: of the archive.
        before: the first day that is kept.

    Returns:
        Number of files that were removed.

    Raises:
        ArchiveError: another writes the archive.
        FilesError: somebody reads it; try again later.
    """
    with reading(folder) as files:
        old = [file for file in files if day_of(file) < before]
    if old:
        with alone(client), changing(folder):
            drop(old)
    return len(old)
