"""Control: changes that every worker follows, within a fraction of a second.

A change is written to the store and, in the same transaction, the revision of its topic is raised.
Every worker looks at all revisions with one small read, and applies what moved. Nothing is pushed,
so nothing can be missed: a worker that was away sees the newest revision when it is back.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

KEY = "control"
"""Hash in the store: topic -> revision."""
POLL_INTERVAL_S = 0.2

logger = logging.getLogger(__name__)

Apply = Callable[[], Awaitable[None]]


def announce(pipeline: Any, topic: str) -> None:  # noqa: ANN401  # redis pipelines are untyped
    """Raise the revision of a topic, in the transaction that changes what it is about."""
    pipeline.hincrby(KEY, topic, 1)


class Control:
    """Applies changes of the topics it follows."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """Follow topics through a client."""
        self._client = client
        self._followers: dict[str, Apply] = {}
        self._seen: dict[str, int] = {}

    def follow(self, topic: str, apply: Apply) -> None:
        """Call `apply` at the first poll after now in which the topic has a new revision.

        `apply` reads the state itself; if it raises, it is logged and called again at the next
        poll, so it must be able to run twice.
        """
        self._followers[topic] = apply

    async def poll(self) -> None:
        """Look once and apply what changed.

        Raises:
            redis.RedisError: the store is away; the next poll catches up.
        """
        found: Any = await self._client.hgetall(KEY)
        for raw, revision in found.items():
            topic, number = raw.decode(), int(revision)
            apply = self._followers.get(topic)
            if apply is None or self._seen.get(topic) == number:
                continue
            try:
                await apply()
            except redis.RedisError:
                raise
            except Exception:  # one topic must not stop the others; it is tried again
                logger.exception("the change of %s cannot be applied; it is tried again", topic)
            else:
                self._seen[topic] = number
