"""Sticky: which variant a unit keeps of experiments that must not change it.

One hash a unit in the store: `KEY@REVISION` -> variant. The variant that is there first stays.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from abtest.log.event_log import Commands
from serving.state.breaker import Breaker
from serving.state.feature_store import MAX_FAILURES, PROBE_AFTER_S
from serving.telemetry.metrics import Metrics

UNKNOWN = "sticky_unknown"
"""The store is away: what the unit keeps is not known, and its variant is what hashing says."""
EXPIRY_S = 400 * 24 * 3600
"""A unit's variants are forgotten so long after the last new one."""
MAX_WRITES = 1000
"""More that are under way at once are not begun: the unit's next request writes them."""

_KEEP = """
for field = 2, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[field], ARGV[field + 1]) end
return redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

logger = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What a unit keeps."""

    variants: Mapping[str, str]
    """By `KEY@REVISION`."""
    degraded: tuple[str, ...] = ()
    """`sticky_unknown` where the store did not tell."""


NOTHING_KEPT = Kept({})


class StickyStore:
    """Reads and writes what units keep. Neither fails: without the store hashing decides."""

    def __init__(
        self,
        quick: Commands,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use a client of the store with a timeout short enough for a request.

        Args:
            quick: the client; commands that are given to it in one turn share a round trip.
            metrics: counts what could not be written.
            clock: seconds, from any beginning.
        """
        self._quick = quick
        self._metrics = metrics
        self._breaker = Breaker(clock, MAX_FAILURES, PROBE_AFTER_S)
        self._writes: set[asyncio.Task[None]] = set()

    async def fetch(self, unit: str) -> Kept:
        """What a unit keeps."""
        if not self._breaker.allow():
            return Kept({}, (UNKNOWN,))
        try:
            found: Any = await self._quick.execute_command("HGETALL", sticky_key(unit))
        except redis.RedisError as error:
            self._breaker.failed()
            logger.warning("what %r keeps cannot be read: %s", unit, error)
            return Kept({}, (UNKNOWN,))
        self._breaker.succeeded()
        pairs = found.items() if isinstance(found, dict) else _pairs(found)
        return Kept({field.decode(): variant.decode() for field, variant in pairs})

    def keep(self, unit: str, variants: Sequence[tuple[str, str]]) -> None:
        """Begin to write variants that a unit got first; nobody waits for it."""
        if len(self._writes) >= MAX_WRITES:
            self._metrics.sticky_unwritten.inc()
            return
        task = asyncio.create_task(self._keep(unit, variants))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _keep(self, unit: str, variants: Sequence[tuple[str, str]]) -> None:
        words = [word for pair in variants for word in pair]
        try:
            await self._quick.execute_command("EVAL", _KEEP, 1, sticky_key(unit), EXPIRY_S, *words)
        except redis.RedisError as error:
            self._metrics.sticky_unwritten.inc()
            logger.warning("what %r keeps is not written (%s); its next request does", unit, error)


def sticky_key(unit: str) -> str:
    """The key of a unit's hash in the store."""
    # The braces keep all keys of a user on one node of a cluster.
    return f"sticky:{{{unit}}}"


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
