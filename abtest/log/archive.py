"""Archive: moves events from the stream into Parquet files, one folder a day.

A chunk of the stream is written beside its final names, synced, renamed, and only then trimmed from
the stream. A crash in between leaves events both in files and in the stream; the next run finds
their ids in the files and does not write them again. Nothing is lost at any point. Events of units
that were erased are left out (`erasure.py`).
"""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow.parquet as pq
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from abtest.events import EVENT_ADAPTER, Event
from abtest.log.columns import Entry, to_table
from abtest.log.event_log import FIELD, STREAM
from abtest.log.files import (
    DAY_US,
    FileName,
    FilesError,
    StreamId,
    changing,
    day_folder,
    draft_of,
    sync,
)
from abtest.log.tombstones import Tombstones, forget_answers, read_tombstones

LOCK = "archive:lock"
LEASE_S = 10.0
"""A crashed archiver holds the lock at most this long; a living one renews it with every chunk."""
WAIT_S = 30.0
CHUNK_EVENTS = 10_000
_PAGE_EVENTS = 1_000
_MARK = "archive:mark"
_SYNC_TIMEOUT_MS = 3_000
"""Of a store that syncs every second; well within the lease."""


class ArchiveError(RuntimeError):
    """The stream could not be archived; what was not archived is still in the stream."""


class _Raw(NamedTuple):
    id: StreamId
    event: bytes


def archive(client: Redis, folder: Path) -> int:
    """Move every event now in the stream into `folder/day=YYYY-MM-DD/*.parquet`.

    A second archiver waits until the first is done. The day is the UTC day of `event_ts_us`.

    Args:
        client: of the store that holds the stream; it must not decode responses.
        folder: of the archived events, made if missing.

    Returns:
        Number of events written.

    Raises:
        ArchiveError: another archiver holds the lock, or an entry of the stream is no event.
    """
    with alone(client) as lock, _no_collection():
        return _move(client, folder, lock)


@contextlib.contextmanager
def alone(client: Redis) -> Iterator[Lock]:
    """Be the only one that writes the archive; the lock is to be renewed within `LEASE_S`.

    Raises:
        ArchiveError: another holds the lock, or the lease ran out.
    """
    lock = client.lock(LOCK, timeout=LEASE_S, blocking_timeout=WAIT_S)
    if not lock.acquire():
        raise ArchiveError(
            f"another archiver has held {LOCK} for {WAIT_S:g} s; try again when it is done"
        )
    try:
        yield lock
    except LockNotOwnedError as error:
        raise ArchiveError(
            f"a chunk took longer than the {LEASE_S:g} s lease of {LOCK}, so the run stopped "
            "before the next one; what it wrote is kept, run it again"
        ) from error
    finally:
        if lock.owned():
            lock.release()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector away: parsed events have no cycles, and it would take most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _move(client: Redis, folder: Path, lock: Lock) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    # While somebody reads, drafts of a run that was killed can wait for the next run.
    with contextlib.suppress(FilesError), changing(folder):
        for draft in folder.glob("day=*/.*.draft"):
            draft.unlink()
    files = list(folder.glob("day=*/*.parquet"))
    tombstones = read_tombstones(client)
    written = 0
    for chunk in _chunks(client):
        lock.reacquire()
        _wait_for_disk(client)
        first, last = chunk[0].id, chunk[-1].id
        known = {name for file in files if FileName.of(file).last >= first for name in _ids(file)}
        entries, erased = _judge(chunk, known, tombstones)
        _write(entries, folder, str(FileName(first, last)))
        forget_answers(client, erased)
        client.xtrim(STREAM, minid=str(StreamId(last.ms, last.sequence + 1)), approximate=False)
        written += len(entries)
    return written


def _wait_for_disk(client: Redis) -> None:
    """Wait until the store has what was read on its disk.

    Else a power cut could take from the store what is in the files already, with all knowledge of
    it; the journal of the server would send it again, and the archive would have it twice.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.set(_MARK, "")
    pipeline.waitaof(1, 0, _SYNC_TIMEOUT_MS)
    # A store that keeps no append-only file, or is older than the command, has nothing to wait for.
    pipeline.execute(raise_on_error=False)


def _chunks(client: Redis) -> Iterator[list[_Raw]]:
    """What stands in the stream now, oldest first; the caller trims each chunk it has written."""
    newest = client.xrevrange(STREAM, count=1)
    if not newest:
        return
    end = _parse_entries(newest)[0].id
    chunk: list[_Raw] = []
    start = "-"
    while page := _parse_entries(client.xrange(STREAM, start, str(end), count=_PAGE_EVENTS)):
        chunk += page
        start = f"({page[-1].id}"
        if len(chunk) >= CHUNK_EVENTS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _parse_entries(reply: object) -> list[_Raw]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)
    return [
        _Raw(StreamId.parse(i.decode()), fields.get(FIELD.encode(), b"")) for i, fields in entries
    ]


def _ids(file: Path) -> list[str]:
    return cast("list[str]", pq.ParquetFile(file).read(["event_id"])["event_id"].to_pylist())


def _judge(
    chunk: Sequence[_Raw], known: set[str], tombstones: Tombstones
) -> tuple[list[Entry], list[Event]]:
    """What is to be written, each event once, and what was erased."""
    new: dict[str, Entry] = {}
    erased: list[Event] = []
    for raw in chunk:
        event = _parse(raw)
        if tombstones.cover(event.unit, event.ingest_ts_us):
            erased.append(event)
        elif event.event_id not in known:
            new.setdefault(event.event_id, Entry(event, raw.event))
    return list(new.values()), erased


def _parse(raw: _Raw) -> Event:
    try:
        return EVENT_ADAPTER.validate_json(raw.event)
    except ValidationError as error:
        raise ArchiveError(
            f"entry {raw.id} of stream {STREAM} is no event of this release "
            f"({error.error_count()} faults, first: {error.errors()[0]['msg']}); archive with "
            f"the release that wrote it, or drop it with XDEL {STREAM} {raw.id}"
        ) from error


def _write(entries: Sequence[Entry], folder: Path, name: str) -> None:
    days: dict[int, list[Entry]] = {}
    for entry in entries:
        days.setdefault(entry.event.event_ts_us // DAY_US, []).append(entry)
    drafts = []
    for number, some in sorted(days.items()):
        day = day_folder(folder, number)
        day.mkdir(exist_ok=True)
        target = day / name
        draft = draft_of(target)
        pq.write_table(to_table(some), draft, compression="zstd")
        sync(draft)
        drafts.append((draft, target))
    for draft, target in drafts:
        draft.rename(target)
        sync(target.parent)
    sync(folder)
