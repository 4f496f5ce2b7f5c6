"""Erasing: works off the erasures that were asked for, up to the receipt."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

from abtest.log.archive import archive
from abtest.log.erasure import (
    Pending,
    erase_archived,
    journal_holds,
    note_complete,
    note_removed,
    pending_erasures,
    swept_erasures,
)
from serving.settings import Settings
from serving.state.control import announce

TOPIC = "erasures"
"""Announced when units are to be forgotten by the workers: they begin new segments, too."""
COMPLETED = "completed_erasures"
REMOVED = "erased_events"
REWRITE_S = 300.0
SETTLE_US = 2_000_000
"""Requests that began before an erasure have written their events so long after it."""
_POLL_S = 0.05

logger = logging.getLogger(__name__)


def complete_erasures(
    settings: Settings,
    store: redis.Redis,
    refresh: Callable[[], object],
    clock: Callable[[], int],
) -> Mapping[str, int]:
    """Take what is erased out of everything that keeps events; counts of what was done.

    Args:
        settings: of the server, which name the folders.
        store: a blocking client of it.
        refresh: makes what is made of archived files anew where files have changed.
        clock: microseconds since the Unix epoch.

    Raises:
        ArchiveError, FilesError: another changes or reads the archive; it goes on the next time.
        redis.RedisError: the store is away.
        TimeoutError: the store does not get to the end of writing its own log anew.
    """
    pending = pending_erasures(store)
    removed = _sweep(settings, store, pending, refresh, clock) if pending else 0
    swept = swept_erasures(store)
    if swept:
        _rewrite_log_of(store)
    for name in swept:
        receipt = note_complete(store, name, clock())
        logger.info("erasure %s, asked for by %r, is complete", receipt.id, receipt.by)
    return {COMPLETED: len(swept), REMOVED: removed}


def _sweep(
    settings: Settings,
    store: redis.Redis,
    pending: list[Pending],
    refresh: Callable[[], object],
    clock: Callable[[], int],
) -> int:
    """Remove what is erased from the stream, files and rollups; the number of archived events."""
    checked_us = clock()
    # Before the archive looks at the stream: what leaves a journal now is in the stream by then.
    held = journal_holds(settings.journal_dir, pending)
    archive(store, settings.events_dir)
    removed = erase_archived(store, settings.events_dir, pending)
    refresh()
    if held:
        announce(store, TOPIC)
    for one in pending:
        settled = checked_us - one.receipt.erased_until_us > SETTLE_US
        note_removed(store, one, removed=removed[one.unit], swept=settled and one.unit not in held)
    return sum(removed.values())


def _rewrite_log_of(store: redis.Redis) -> None:
    """Have the store write its append-only file anew, which holds what was deleted until then.

    A hosted store does that by itself, and refuses to be told.

    Raises:
        TimeoutError: it does not come to an end.
    """
    deadline_s = time.monotonic() + REWRITE_S
    try:
        if not _persistence(store).get("aof_enabled"):
            return
        _wait_for_rewrite(store, deadline_s)  # one that began before the deletion
        store.bgrewriteaof()
        _wait_for_rewrite(store, deadline_s)
    except redis.ResponseError as error:
        logger.info("the store writes its own log anew when it wants to (%s)", error)


def _wait_for_rewrite(store: redis.Redis, deadline_s: float) -> None:
    while (info := _persistence(store))["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the store has been writing its log anew for {REWRITE_S:g} s")
        time.sleep(_POLL_S)


def _persistence(store: redis.Redis) -> dict[str, Any]:
    info: Any = store.info("persistence")
    return dict(info)
