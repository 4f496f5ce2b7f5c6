"""Control: changes that every worker follows, within a fraction of a second.

A change is written to the store and, in the same transaction, the revision of its topic is raised.
Every worker looks at all revisions with one small read, and applies what moved. Nothing is pushed,
so nothing can be missed: a worker that was away sees the newest revision when it is back.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from serving.state.periodic import periodically

KEY = "control"
"""Hash in the store: topic -> revision."""
POLL_INTERVAL_S = 0.2
MAX_RETRY_S = 30.0
"""A change that cannot be applied is tried again at every poll at first, at last so seldom."""

logger = logging.getLogger(__name__)

Apply = Callable[[], Awaitable[None]]


def announce(pipeline: Any, topic: str) -> None:  # noqa: ANN401  # redis pipelines are untyped
    """Raise the revision of a topic, in the transaction that changes what it is about."""
    pipeline.hincrby(KEY, topic, 1)


@dataclass
class _Follower:
    apply: Apply
    seen: int | None = None
    task: "asyncio.Task[None] | None" = None
    failures: int = 0
    retry_at_s: float = 0.0


class Control:
    """Applies changes of the topics it follows."""

    def __init__(
        self, client: redis.asyncio.Redis, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Follow topics through a client."""
        self._client = client
        self._monotonic_s = monotonic_s
        self._followers: dict[str, _Follower] = {}

    def follow(self, topic: str, apply: Apply) -> None:
        """Call `apply` at the first poll after now in which the topic has a new revision.

        `apply` reads the state itself; if it raises, it is logged and called again later, so it
        must be able to run twice. It never runs twice at once, and a slow one holds up no other
        topic.
        """
        self._followers[topic] = _Follower(apply)

    async def poll(self) -> None:
        """Look once and start to apply what changed.

        Raises:
            redis.RedisError: the store is away; the next poll catches up.
        """
        found: Any = await self._client.hgetall(KEY)
        now_s = self._monotonic_s()
        for raw, revision in found.items():
            topic, number = raw.decode(), int(revision)
            follower = self._followers.get(topic)
            if follower is None or follower.task is not None or follower.seen == number:
                continue
            if now_s >= follower.retry_at_s:
                follower.task = asyncio.create_task(self._apply(topic, follower, number))

    async def catch_up(self) -> None:
        """Apply what changed before now, as far as the store answers and the changes can be."""
        try:
            await self.poll()
        except redis.RedisError as error:
            logger.warning("the store is away (%s); what changed is applied when it is back", error)
        await self.settle()

    async def settle(self) -> None:
        """Wait until everything that was started is applied, or has failed."""
        under_way = [f.task for f in self._followers.values() if f.task is not None]
        await asyncio.gather(*under_way)

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until `stopping` is set; then wait for what is being applied."""
        await periodically(POLL_INTERVAL_S, stopping, self.poll)
        await self.settle()

    async def _apply(self, topic: str, follower: _Follower, number: int) -> None:
        try:
            await follower.apply()
        except Exception:  # one topic must not stop the others
            delay_s = min(POLL_INTERVAL_S * 2**follower.failures, MAX_RETRY_S)
            follower.failures += 1
            follower.retry_at_s = self._monotonic_s() + delay_s
            logger.exception(
                "the change of %s cannot be applied; it is tried again in %.1f s", topic, delay_s
            )
        else:
            follower.seen, follower.failures, follower.retry_at_s = number, 0, 0.0
        finally:
            follower.task = None
