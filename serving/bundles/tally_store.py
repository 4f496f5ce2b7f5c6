"""Tally store: where all workers put what they found in a trial, to be added up."""

from datetime import timedelta
from typing import Any

import redis.asyncio

from serving.bundles.choice import Trial
from serving.bundles.tally import Tally, total, unpack

KEPT = timedelta(days=30)


class TallyStore:
    """One worker's access to the tallies of all."""

    def __init__(self, client: redis.asyncio.Redis, worker: str) -> None:
        """Write as `worker`, whose id no other worker has or ever had."""
        self._client = client
        self._worker = worker

    async def put(self, trial: Trial, tally: Tally) -> None:
        """Replace what this worker found in a trial."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(_key(trial), self._worker, tally.pack())
        pipeline.expire(_key(trial), KEPT)
        await pipeline.execute()

    async def total(self, trial: Trial) -> Tally:
        """What all workers found in a trial, also those that are gone."""
        found: Any = await self._client.hgetall(_key(trial))
        return total(unpack(packed) for packed in found.values())


def _key(trial: Trial) -> str:
    return f"shadow:{trial.trial_id}"
