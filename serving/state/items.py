"""Items in the store: what was put about them, merged, with a revision for each change.

Two keys hold the same items: their states by id, and their ids by the revision of the last change.
So a worker reads only what changed since it looked last, and a new one reads everything in pages.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import redis
import redis.asyncio

from serving.state.control import announce

TOPIC = "items"
STATES = "items"
CHANGES = "items:changes"
REVISION = "items:revision"

ATTEMPTS = 100
"""A put is tried again when another worker put something in between."""


class ItemChange(NamedTuple):
    """What is put about an item; None is what stays as it was."""

    item_id: str
    available: bool | None = None
    price_micros: int | None = None
    popularity: float | None = None
    fields: Mapping[str, str | None] = {}
    """Values by field, those that stay as they were left out; None is a value nobody knows."""


class ItemState(NamedTuple):
    """Everything that was put about an item; None is what never was."""

    item_id: str
    revision: int
    """Of the last change; microseconds since the Unix epoch, and larger than any before."""
    created: int
    """Revision of the first change."""
    available: bool | None
    price_micros: int | None
    popularity: float | None
    fields: Mapping[str, str | None]


class Changes(NamedTuple):
    """A page of items that changed."""

    states: tuple[ItemState, ...]
    revision: int
    """Every change up to this one is in this page or in those before."""


class ItemStore:
    """Reads and writes what was put about items."""

    def __init__(self, client: redis.asyncio.Redis, clock: Callable[[], int]) -> None:
        """Keep items through `client`; `clock` gives microseconds since the Unix epoch."""
        self._client = client
        self._clock = clock
        self._writing = asyncio.Lock()

    async def put(self, changes: Sequence[ItemChange]) -> tuple[str, ...]:
        """Put changes, in their order; ids that nothing was put about before, each once.

        Raises:
            redis.RedisError: the store is away, or busy with puts; nothing was put.
        """
        async with self._writing, self._client.pipeline(transaction=True) as pipeline:
            for attempt in range(ATTEMPTS):
                try:
                    return await self._try(pipeline, changes)
                except redis.WatchError:
                    if attempt == ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    async def _try(self, pipeline: Any, changes: Sequence[ItemChange]) -> tuple[str, ...]:  # noqa: ANN401  # redis pipelines are untyped
        await pipeline.watch(REVISION)
        last = int(await pipeline.get(REVISION) or 0)
        ids = list(dict.fromkeys(change.item_id for change in changes))
        found = await pipeline.hmget(STATES, ids)
        states = {i: _parse(i, raw) for i, raw in zip(ids, found, strict=True) if raw}
        new = tuple(i for i in ids if i not in states)
        # By the clock, so that revisions go on growing should the store lose its last ones.
        first = max(last + 1, self._clock())
        for revision, change in enumerate(changes, start=first):
            states[change.item_id] = merge(states.get(change.item_id), change, revision)
        pipeline.multi()
        pipeline.set(REVISION, first + len(changes) - 1)
        pipeline.hset(STATES, mapping={i: _dump(state) for i, state in states.items()})
        pipeline.zadd(CHANGES, {i: state.revision for i, state in states.items()})
        announce(pipeline, TOPIC)
        await pipeline.execute()
        return new

    async def changed_since(self, revision: int, size: int) -> Changes:
        """The first `size` items whose last change is after a revision."""
        found: Any = await self._client.zrangebyscore(
            CHANGES, f"({revision}", "+inf", start=0, num=size, withscores=True
        )
        if not found:
            return Changes((), revision)
        ids = [raw.decode() for raw, _ in found]
        states: Any = await self._client.hmget(STATES, ids)
        # A state may be newer than the page: it is seen again, and nothing between is left out.
        return Changes(
            tuple(_parse(i, raw) for i, raw in zip(ids, states, strict=True)), int(found[-1][1])
        )

    async def get(self, item_id: str) -> ItemState | None:
        """What was put about an item, None if nothing was."""
        raw: Any = await self._client.hget(STATES, item_id)
        return _parse(item_id, raw) if raw else None


def merge(state: ItemState | None, change: ItemChange, revision: int) -> ItemState:
    """The state after a change."""
    if state is None:
        return ItemState(change.item_id, revision, revision, *change[1:4], dict(change.fields))
    return ItemState(
        item_id=change.item_id,
        revision=revision,
        created=state.created,
        available=state.available if change.available is None else change.available,
        price_micros=state.price_micros if change.price_micros is None else change.price_micros,
        popularity=state.popularity if change.popularity is None else change.popularity,
        fields={**state.fields, **change.fields},
    )


def _dump(state: ItemState) -> bytes:
    return orjson.dumps({k: v for k, v in state._asdict().items() if k != "item_id"})


def _parse(item_id: str, raw: bytes) -> ItemState:
    return ItemState(item_id=item_id, **orjson.loads(raw))
