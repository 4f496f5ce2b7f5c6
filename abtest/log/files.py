"""Files of the archive: `day=YYYY-MM-DD/FIRST-LAST[-GENERATION].parquet`, one folder a UTC day.

A file never changes: its path below the folder is its identity. FIRST and LAST are the ids of the
first and last entry of the stream that it may hold events of. Files are added; besides, some can be
replaced by one that holds the same events (compaction) or fewer (erasure), which gets the next
generation, or dropped (retention). `reading` shows each event in one file, at any moment, also
after a kill in the middle of a replacement.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import orjson

DAY_US = 86_400_000_000
_SWAP = ".swap.json"


class FilesError(RuntimeError):
    """The archived files cannot be changed now; the message says why."""


class StreamId(NamedTuple):
    """Id of an entry of the stream."""

    ms: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> "StreamId":
        """The id that `str` wrote."""
        ms, sequence = text.split("-")
        return cls(int(ms), int(sequence))

    def __str__(self) -> str:
        """As the store writes it."""
        return f"{self.ms}-{self.sequence}"


class FileName(NamedTuple):
    """What the name of a file says."""

    first: StreamId
    last: StreamId
    generation: int = 0
    """How often its events were written anew."""

    @classmethod
    def of(cls, file: Path) -> "FileName":
        """What the name of a file of the archive says."""
        a, b, c, d, *generation = (int(part) for part in file.stem.split("-"))
        return cls(StreamId(a, b), StreamId(c, d), *generation)

    def __str__(self) -> str:
        """The file's name."""
        generation = f"-{self.generation}" if self.generation else ""
        return f"{self.first}-{self.last}{generation}.parquet"


class _Swap(NamedTuple):
    """A replacement under way: `draft` becomes `target`, then `old` are removed."""

    draft: str
    target: str
    old: tuple[str, ...]


@contextmanager
def reading(folder: Path) -> Iterator[list[Path]]:
    """The files of the archive, none of which goes away before the end of the block.

    Args:
        folder: of the archive; there need be none.

    Yields:
        Paths in order of day and name, such that each event is in one of them. New files may be
        added meanwhile.
    """
    with _locked(folder, fcntl.LOCK_SH):
        yield _listed(folder)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Nobody reads, and nobody else changes, before the end of the block.

    Raises:
        FilesError: somebody reads or changes; try again later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        finish_replacement(folder)
        yield


def day_folder(folder: Path, number: int) -> Path:
    """Where the events of a UTC day lie.

    Args:
        folder: of the archive.
        number: of the day, counted from 1970-01-01.
    """
    return folder / f"day={date(1970, 1, 1) + timedelta(days=number)}"


def day_of(file: Path) -> date:
    """The UTC day of a file's events."""
    return date.fromisoformat(file.parent.name.removeprefix("day="))


def draft_of(target: Path) -> Path:
    """Where a file is written before it gets its name."""
    return target.with_name(f".{target.name}.draft")


def replacement_of(files: Sequence[Path]) -> Path:
    """Where a file with the events of several files of a day belongs."""
    names = [FileName.of(file) for file in files]
    name = FileName(
        min(name.first for name in names),
        max(name.last for name in names),
        1 + max(name.generation for name in names),
    )
    return files[0].with_name(str(name))


def replace(folder: Path, old: Sequence[Path], draft: Path, target: Path) -> None:
    """Put a draft in the place of files of its day; inside `changing`.

    Whatever happens in between, `reading` shows either the old files or the new one.
    """
    names = [str(path.relative_to(folder)) for path in (draft, target, *old)]
    note = folder / f"{_SWAP}.draft"
    note.write_bytes(orjson.dumps([names[0], names[1], names[2:]]))
    sync(draft)
    sync(note)
    note.rename(folder / _SWAP)
    sync(folder)
    finish_replacement(folder)


def drop(files: Sequence[Path]) -> None:
    """Remove files, and the folders of days that are then empty; inside `changing`."""
    for file in files:
        file.unlink(missing_ok=True)
    for parent in {file.parent for file in files}:
        sync(parent)
        if not any(parent.iterdir()):
            parent.rmdir()
            sync(parent.parent)


def finish_replacement(folder: Path) -> None:
    """Finish a replacement that was begun; inside `changing`, or where nobody else changes."""
    swap = _begun(folder)
    if swap is None:
        return
    target = folder / swap.target
    if (folder / swap.draft).exists():
        (folder / swap.draft).rename(target)
        sync(target.parent)
    for name in swap.old:
        (folder / name).unlink(missing_ok=True)
    sync(target.parent)
    (folder / _SWAP).unlink()
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed(folder: Path) -> list[Path]:
    found = set(folder.glob("day=*/*.parquet"))
    swap = _begun(folder)
    if swap is not None and folder / swap.target in found:
        found -= {folder / name for name in swap.old}
    return sorted(found)


def _begun(folder: Path) -> _Swap | None:
    try:
        draft, target, old = orjson.loads((folder / _SWAP).read_bytes())
    except FileNotFoundError:
        return None
    return _Swap(draft, target, tuple(old))


@contextmanager
def _locked(folder: Path, mode: int) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # nothing was archived yet
        yield
        return
    try:
        fcntl.flock(descriptor, mode)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FilesError(
            f"the files of {folder} are being read or changed; try again when that is done"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
