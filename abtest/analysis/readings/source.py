"""Source: archived files as rollups see them; one is never changed, only replaced."""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

_PREFIX = "day="


class Source(NamedTuple):
    """Identity of an archived file of a day; one that was rewritten is another one."""

    name: str
    size: int
    mtime_ns: int


def sources(folder: Path) -> dict[date, frozenset[Source]]:
    """What is archived, by day, oldest first."""
    found: dict[date, frozenset[Source]] = {}
    for day in sorted(folder.glob(f"{_PREFIX}*")):
        files = frozenset(_source(path) for path in day.glob("*.parquet"))
        if files:
            found[date.fromisoformat(day.name.removeprefix(_PREFIX))] = files
    return found


def paths(folder: Path, day: date, files: Iterable[Source]) -> list[str]:
    """Where files of a day lie, in the order of their names."""
    return sorted(str(day_folder(folder, day) / file.name) for file in files)


def day_folder(folder: Path, day: date) -> Path:
    """Folder of a day."""
    return folder / f"{_PREFIX}{day}"


def unchanged(folder: Path, day: date, files: Iterable[Source]) -> bool:
    """Whether files are still there as they were."""
    try:
        return all(_source(day_folder(folder, day) / file.name) == file for file in files)
    except FileNotFoundError:
        return False


def _source(path: Path) -> Source:
    status = path.stat()
    return Source(path.name, status.st_size, status.st_mtime_ns)
