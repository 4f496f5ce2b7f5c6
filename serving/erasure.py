"""Erasure: everything about a unit goes, at its wish.

The call removes what is known of the unit from the store, and notes in the same transaction that
its events are to go. Workers let go of what they remember of it; the background process does the
rest (`background/erasing.py`) and writes into the receipt when nothing is left.
"""

from collections.abc import Callable, Collection
from typing import Any

import redis.asyncio

from abtest.events import new_event_id
from abtest.log.erasure import PENDING, Receipt
from abtest.log.event_log import EventLog
from abtest.log.tombstones import ERASURES, digest
from serving.background import erasing
from serving.state.control import announce
from serving.state.feature_store import FeatureStore, user_keys
from serving.state.sticky import sticky_key

ATTEMPTS = 20


class NoErasureError(ValueError):
    """The erasure of a unit was never asked for."""


class Erasures:
    """Takes in wishes, and makes a worker forget."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        features: FeatureStore,
        log: EventLog,
        clock: Callable[[], int],
    ) -> None:
        """Erase what a store, a worker's memory and its log know.

        Args:
            client: of the store.
            features: of this worker.
            log: of this worker.
            clock: microseconds since the Unix epoch.
        """
        self._client = client
        self._features = features
        self._log = log
        self._clock = clock

    async def request(self, unit: str, by: str) -> Receipt:
        """Erase a unit; what is left of it is gone when its receipt says so.

        Args:
            unit: whose features, history, kept variants and events go.
            by: who asks.

        Returns:
            The receipt; of an erasure that is under way the same, which now goes up to this call.

        Raises:
            redis.RedisError: the store is away; nothing was begun.
        """
        async with self._client.pipeline(transaction=True) as pipeline:
            for attempt in range(ATTEMPTS):
                try:
                    return await self._try(pipeline, unit, by)
                except redis.WatchError:  # another erasure was written: it is a short race
                    if attempt == ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    async def receipt(self, unit: str) -> Receipt:
        """The receipt of the newest erasure of a unit.

        Raises:
            NoErasureError: there is none.
            redis.RedisError: the store is away.
        """
        raw: Any = await self._client.hget(ERASURES, digest(unit))
        if raw is None:
            raise NoErasureError(
                f"no erasure of unit {unit!r} was asked for; send DELETE /v1/units/UNIT first"
            )
        return Receipt.model_validate_json(raw)

    async def apply(self) -> None:
        """Let go of what this worker remembers of units that are being erased.

        Raises:
            redis.RedisError: the store is away.
            JournalError: the journal cannot delete what the store has.
        """
        pending: Any = await self._client.hvals(PENDING)
        self.forget([unit.decode() for unit in pending])

    def forget(self, units: Collection[str]) -> None:
        """Let go of some units.

        Raises:
            JournalError: the journal cannot delete what the store has.
        """
        if units:
            self._features.forget(units)
            self._log.forget(set(units))

    async def _try(self, pipeline: Any, unit: str, by: str) -> Receipt:  # noqa: ANN401  # redis pipelines are untyped
        name, now_us = digest(unit), self._clock()
        await pipeline.watch(ERASURES)
        raw = await pipeline.hget(ERASURES, name)
        receipt = None if raw is None else Receipt.model_validate_json(raw)
        if receipt is None or receipt.completed_us is not None:
            receipt = Receipt(id=new_event_id(), by=by, requested_us=now_us, erased_until_us=now_us)
        receipt = receipt.model_copy(update={"erased_until_us": now_us})
        pipeline.multi()
        pipeline.hset(ERASURES, name, receipt.model_dump_json())
        pipeline.hset(PENDING, name, unit)
        pipeline.delete(*user_keys(unit), sticky_key(unit))
        announce(pipeline, erasing.TOPIC)
        await pipeline.execute()
        return receipt
