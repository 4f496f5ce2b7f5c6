"""Archive: moves events from the stream into Parquet files, one folder a day.

A chunk of the stream is written beside its final names, synced, renamed, and only then trimmed from
the stream. A crash in between leaves events both in files and in the stream; the next run finds
their ids in the files and does not write them again. Nothing is lost at any point.
"""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from abtest.events import EVENT_ADAPTER, ConversionEvent, Event, RankingEvent
from abtest.log.event_log import FIELD, STREAM

LOCK = "archive:lock"
LEASE_S = 10.0
"""A crashed archiver holds the lock at most this long; a living one renews it with every chunk."""
WAIT_S = 30.0
CHUNK_EVENTS = 10_000
_PAGE_EVENTS = 1_000
_MARK = "archive:mark"
_SYNC_TIMEOUT_MS = 3_000
"""Of a store that syncs every second; well within the lease."""

_ASSIGNMENT = pa.struct(
    [
        ("layer", pa.string()),
        ("key", pa.string()),
        ("revision", pa.int64()),
        ("variant", pa.string()),
        ("propensity", pa.float64()),
        ("forced", pa.bool_()),
        ("cluster", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("type", pa.string()),
        ("event_id", pa.string()),
        ("event_ts_us", pa.int64()),
        ("ingest_ts_us", pa.int64()),
        ("request_id", pa.string()),
        ("unit", pa.string()),
        ("assignments", pa.list_(_ASSIGNMENT)),
        ("bundle", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("latency_us", pa.int64()),
        ("degraded", pa.list_(pa.string())),
        ("item_id", pa.string()),
        ("position", pa.int64()),
        ("revenue_micros", pa.int64()),
        ("currency", pa.string()),
        ("refund_of", pa.string()),
        ("event", pa.string()),
    ]
)
"""Columns of an archived event; those of other types are null, `event` is its whole JSON."""

_RANKING_COLUMNS = ("bundle", "item_ids", "scores", "degraded")
_FEEDBACK_COLUMNS = ("item_id", "position")
_CONVERSION_COLUMNS = ("revenue_micros", "currency", "refund_of")


class ArchiveError(RuntimeError):
    """The stream could not be archived; what was not archived is still in the stream."""


class _StreamId(NamedTuple):
    ms: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> "_StreamId":
        ms, sequence = text.split("-")
        return cls(int(ms), int(sequence))

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"


class _Entry(NamedTuple):
    id: _StreamId
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
    lock = client.lock(LOCK, timeout=LEASE_S, blocking_timeout=WAIT_S)
    if not lock.acquire():
        raise ArchiveError(
            f"another archiver has held {LOCK} for {WAIT_S:g} s; try again when it is done"
        )
    try:
        return _move(client, folder, lock)
    except LockNotOwnedError as error:
        raise ArchiveError(
            f"a chunk took longer than the {LEASE_S:g} s lease of {LOCK}, so the run stopped "
            "before the next one; what it wrote is kept, run it again"
        ) from error
    finally:
        if lock.owned():
            lock.release()


def _move(client: Redis, folder: Path, lock: Lock) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for draft in folder.glob("day=*/.*.draft"):
        draft.unlink()
    files = list(folder.glob("day=*/*.parquet"))
    written = 0
    for chunk in _chunks(client):
        lock.reacquire()
        _wait_for_disk(client)
        first, last = chunk[0].id, chunk[-1].id
        known = {event_id for file in files if _overlaps(file, first) for event_id in _ids(file)}
        rows = _new_rows(chunk, known)
        _write(rows, folder, f"{first}-{last}.parquet")
        client.xtrim(STREAM, minid=str(_StreamId(last.ms, last.sequence + 1)), approximate=False)
        written += len(rows)
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


def _chunks(client: Redis) -> Iterator[list[_Entry]]:
    """What stands in the stream now, oldest first; the caller trims each chunk it has written."""
    newest = client.xrevrange(STREAM, count=1)
    if not newest:
        return
    end = _parse_entries(newest)[0].id
    chunk: list[_Entry] = []
    start = "-"
    while page := _parse_entries(client.xrange(STREAM, start, str(end), count=_PAGE_EVENTS)):
        chunk += page
        start = f"({page[-1].id}"
        if len(chunk) >= CHUNK_EVENTS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _parse_entries(reply: object) -> list[_Entry]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)
    return [
        _Entry(_StreamId.parse(i.decode()), fields.get(FIELD.encode(), b""))
        for i, fields in entries
    ]


def _overlaps(file: Path, first: _StreamId) -> bool:
    """Whether a file may hold entries of the stream from `first` on."""
    _, _, last_ms, last_sequence = file.stem.split("-")
    return _StreamId(int(last_ms), int(last_sequence)) >= first


def _ids(file: Path) -> list[str]:
    return cast("list[str]", pq.ParquetFile(file).read(["event_id"])["event_id"].to_pylist())


def _new_rows(chunk: list[_Entry], known: set[str]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for entry in chunk:
        try:
            event = EVENT_ADAPTER.validate_json(entry.event)
        except ValidationError as error:
            raise ArchiveError(
                f"entry {entry.id} of stream {STREAM} is no event of this release "
                f"({error.error_count()} faults, first: {error.errors()[0]['msg']}); archive with "
                f"the release that wrote it, or drop it with XDEL {STREAM} {entry.id}"
            ) from error
        if event.event_id not in known:
            rows.setdefault(event.event_id, _flatten(event) | {"event": entry.event.decode()})
    return list(rows.values())


def _flatten(event: Event) -> dict[str, Any]:
    names = ["type", "event_id", "event_ts_us", "ingest_ts_us", "request_id", "unit"]
    names += _RANKING_COLUMNS if isinstance(event, RankingEvent) else _FEEDBACK_COLUMNS
    names += _CONVERSION_COLUMNS if isinstance(event, ConversionEvent) else ()
    row = {name: getattr(event, name) for name in names}
    row["assignments"] = [assignment.model_dump() for assignment in event.experiments]
    if isinstance(event, RankingEvent):
        row["latency_us"] = event.latency_us["total"]
    return row


def _write(rows: list[dict[str, Any]], folder: Path, name: str) -> None:
    days: dict[date, list[dict[str, Any]]] = {}
    for row in rows:
        days.setdefault(_day(row["event_ts_us"]), []).append(row)
    drafts = []
    for day, events in sorted(days.items()):
        target = folder / f"day={day}" / name
        target.parent.mkdir(exist_ok=True)
        draft = target.with_name(f".{name}.draft")
        pq.write_table(pa.Table.from_pylist(events, SCHEMA), draft, compression="zstd")
        _sync(draft)
        drafts.append((draft, target))
    for draft, target in drafts:
        draft.rename(target)
        _sync(target.parent)
    _sync(folder)


def _day(ts_us: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)).date()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
