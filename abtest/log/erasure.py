"""Erasure: everything about a unit leaves the log, whatever it was when it was asked for.

It is begun by a note in the store, which the background process works off: so an erasure goes on
after any crash. First the archive takes what stands in the stream, and leaves out what is erased;
then files that hold such events are written anew without them; then no journal may hold any. What
the unit does after it asked is new, and stays.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict
from redis import Redis

from abtest.log.archive import alone
from abtest.log.files import changing, draft_of, drop, reading, replace, replacement_of
from abtest.log.record import Kind, unpack
from abtest.log.rewriting import parts, rewrite
from abtest.log.segment import records_of, segment_paths
from abtest.log.tombstones import ERASURES, digest, forget_requests

PENDING: Final = "erasures:pending"
"""Hash in the store: digest of a unit -> the unit, as long as something of it may be left."""
SWEPT: Final = "erasures:swept"
"""Set in the store: digests of units that only the store's own log may still name."""


class Receipt(BaseModel):
    """What is kept of an erasure, for good; it does not name the unit."""

    model_config = ConfigDict(frozen=True)

    id: str
    by: str
    """Who asked for it."""
    requested_us: int
    erased_until_us: int
    """Events taken in up to then are erased."""
    completed_us: int | None = None
    """When nothing was left; None as long as something may be."""
    removed_events: int = 0
    """Taken out of archived files so far."""


class Pending(NamedTuple):
    """An erasure that is not complete."""

    unit: str
    receipt: Receipt


def pending_erasures(client: Redis) -> list[Pending]:
    """What is to be erased."""
    found = cast("dict[bytes, bytes]", client.hgetall(PENDING))
    units = [unit.decode() for unit in found.values()]
    kept = cast("list[bytes]", client.hmget(ERASURES, [digest(unit) for unit in units] or [""]))
    return [
        Pending(unit, Receipt.model_validate_json(text))
        for unit, text in zip(units, kept, strict=False)
    ]


def erase_archived(client: Redis, folder: Path, pending: list[Pending]) -> Mapping[str, int]:
    """Write the files that hold events of erased units anew, without them.

    Args:
        client: of the store that the events came from.
        folder: of the archive; to be called after `archive`, which leaves out what comes later.
        pending: what to erase.

    Returns:
        Removed events by unit.

    Raises:
        ArchiveError: another writes the archive.
        FilesError: somebody reads it; what is erased stays so, the rest is done the next time.
    """
    removed = {unit: 0 for unit, _ in pending}
    with alone(client) as lock, reading(folder) as files:
        touched = [file for file in files if lock.reacquire() and _holds(file, pending)]
    with alone(client) as lock:
        for file in touched:
            _rewrite_without(client, folder, file, pending, lock.reacquire, removed)
    return removed


def journal_holds(root: Path, pending: list[Pending]) -> set[str]:
    """Units whose erased events some process has in its journal still.

    Args:
        root: of the journals of all workers; there need be none.
        pending: what is erased.
    """
    names = {unit: orjson.dumps(unit) for unit, _ in pending}
    until_us = {unit: receipt.erased_until_us for unit, receipt in pending}
    found: set[str] = set()
    for path in (path for folder in root.glob("*") for path in segment_paths(folder)):
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # the store has just got all of it
            continue
        if any(name in content for name in names.values()):
            for packed in records_of(content):
                record = unpack(packed)
                event = orjson.loads(record.content) if record.kind is Kind.EVENT else {}
                if event and event["ingest_ts_us"] <= until_us.get(event["unit"], -1):
                    found.add(event["unit"])
    return found


def note_removed(client: Redis, one: Pending, *, removed: int, swept: bool) -> None:
    """Write into a receipt what was removed, and whether nothing is left but the store's own log.

    One that was asked for again meanwhile stays pending.
    """
    name = digest(one.unit)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch(ERASURES)  # type: ignore[no-untyped-call]
        kept = _kept(pipeline, name)
        pipeline.multi()
        counted = kept.model_copy(update={"removed_events": kept.removed_events + removed})
        pipeline.hset(ERASURES, name, counted.model_dump_json())
        if swept and kept.erased_until_us == one.receipt.erased_until_us:
            pipeline.hdel(PENDING, name)
            pipeline.sadd(SWEPT, name)
        pipeline.execute()


def swept_erasures(client: Redis) -> list[str]:
    """Digests of units of which nothing is left but, maybe, in the store's own log."""
    return sorted(name.decode() for name in cast("set[bytes]", client.smembers(SWEPT)))


def note_complete(client: Redis, name: str, completed_us: int) -> Receipt:
    """Write into a receipt that nothing is left, unless it was asked for again; the receipt."""
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch(ERASURES)  # type: ignore[no-untyped-call]
        receipt = _kept(pipeline, name)
        if not pipeline.hexists(PENDING, name):
            receipt = receipt.model_copy(update={"completed_us": completed_us})
        pipeline.multi()
        pipeline.hset(ERASURES, name, receipt.model_dump_json())
        pipeline.srem(SWEPT, name)
        pipeline.execute()
    return receipt


def _kept(client: Redis, name: str) -> Receipt:
    raw: Any = client.hget(ERASURES, name)
    return Receipt.model_validate_json(raw)


def _holds(file: Path, pending: list[Pending]) -> bool:
    return any(
        pc.any(_erased(part, pending)).as_py() for part in parts(file, ["unit", "ingest_ts_us"])
    )


def _erased(part: pa.Table, pending: list[Pending]) -> pa.ChunkedArray:
    """Which rows of a part are erased."""
    mask = pa.chunked_array([pa.array([False] * len(part))])
    for unit, receipt in pending:
        early = pc.less_equal(part["ingest_ts_us"], receipt.erased_until_us)
        mask = pc.or_(mask, pc.and_(pc.equal(part["unit"], unit), early))
    return mask


def _rewrite_without(
    client: Redis,
    folder: Path,
    file: Path,
    pending: list[Pending],
    renew: Callable[[], object],
    removed: dict[str, int],
) -> None:
    request_ids: set[str] = set()
    gone: list[str] = []

    def keep(part: pa.Table) -> pa.Table:
        mask = _erased(part, pending)
        out = part.filter(mask)
        gone.extend(out["unit"].to_pylist())
        request_ids.update(out["request_id"].to_pylist())
        return part.filter(pc.invert(mask))

    draft = draft_of(target := replacement_of([file]))
    left = rewrite([file], draft, keep=keep, renew=renew)
    forget_requests(client, sorted(request_ids))
    renew()
    with changing(folder):
        if left:
            replace(folder, [file], draft, target)
        else:
            draft.unlink()
            drop([file])
    for unit in gone:
        removed[unit] += 1
