"""What the store knows about a user: features, and a history packed into one blob.

A history is a string of 16-byte records, oldest first: item key (uint64) and time in microseconds
(int64), little endian. Appending is one APPEND, which cuts the oldest off now and then.

Users that were read are kept in memory, for when the store is away.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import redis.asyncio

from abtest.log.event_log import Commands
from serving.cascade.batching import Batcher
from serving.state.breaker import Breaker
from training.features import Int64, UInt64

RECORD = np.dtype([("key", "<u8"), ("ts_us", "<i8")])
REMEMBERED_INTERACTION_IDS = 1000
"""So many of a user's last lists of interactions are recognized when they come again."""

MAX_BATCH = 64
MAX_KNOWN_BYTES = 64 << 20
MAX_FAILURES = 3
PROBE_AFTER_S = 0.5

STALE = "features_stale"
"""The store is away; this is what it said last."""
MISSING = "features_missing"
"""The store is away and never told of this user, who is answered like a newcomer."""

_ENTRY_BYTES = 300
"""Of memory that keeping a user takes beside the data."""

logger = logging.getLogger(__name__)

_APPEND = """
if ARGV[3] ~= '' then
  local now = redis.call('TIME')
  if redis.call('ZADD', KEYS[2], 'NX', now[1] * 1000000 + now[2], ARGV[3]) == 0 then
    return 0
  end
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[4])
end
local kept = tonumber(ARGV[2])
if redis.call('APPEND', KEYS[1], ARGV[1]) > 2 * kept then
  redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], -kept, -1))
end
return 1
"""


class UserState(NamedTuple):
    """Features and the newest part of the history; all empty for an unknown user."""

    features: dict[str, str | None]
    history_keys: UInt64
    history_ts_us: Int64
    degraded: tuple[str, ...] = ()
    """Why this may not be what the store knows: `features_stale` or `features_missing`."""


class _Packed(NamedTuple):
    """A user as the store has it."""

    features: bytes | None
    history: bytes

    def unpack(self, degraded: tuple[str, ...] = ()) -> UserState:
        history = np.frombuffer(self.history, dtype=RECORD)
        features: dict[str, str | None] = orjson.loads(self.features) if self.features else {}
        return UserState(features, history["key"], history["ts_us"], degraded)


_NOTHING = _Packed(None, b"")


class FeatureStore:
    """Reads and writes users. Reading does not fail: it falls back to what was last known."""

    def __init__(
        self,
        quick: Commands,
        client: redis.asyncio.Redis,
        history_length: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep at least the newest `history_length()` interactions of every user.

        Args:
            quick: client of the store for reads, with a timeout short enough for a request.
            client: of the same store, for writes.
            history_length: in interactions; asked each time, because bundles are swapped.
            clock: seconds, from any beginning.
        """
        self._quick = quick
        self._client = client
        self._history_length = history_length
        self._append = client.register_script(_APPEND)
        self._reads = Batcher(self._read, MAX_BATCH)
        self._breaker = Breaker(clock, MAX_FAILURES, PROBE_AFTER_S)
        self._known: OrderedDict[str, _Packed] = OrderedDict()
        self._known_bytes = 0

    @property
    def _kept_bytes(self) -> int:
        return self._history_length() * RECORD.itemsize

    @property
    def away(self) -> bool:
        """Whether reads are not even tried, because the last ones failed."""
        return self._breaker.open

    def note_store_is_back(self) -> None:
        """Read again: the store has answered somebody else in time."""
        self._breaker.succeeded()

    async def fetch(self, user_id: str) -> UserState:
        """Features and newest interactions of a user; concurrent reads share a round trip."""
        packed = await self._reads.submit(user_id) if self._breaker.allow() else None
        if packed is not None:
            self._remember(user_id, packed)
            return packed.unpack()
        known = self._known.get(user_id)
        return _NOTHING.unpack((MISSING,)) if known is None else known.unpack((STALE,))

    async def _read(self, user_ids: Sequence[str]) -> list[_Packed] | list[None]:
        keys = [key(user_id) for user_id in user_ids for key in (_features_key, _history_key)]
        try:
            # One command, whatever the number of users: each would cost as much as all of them.
            replies: Any = await self._quick.execute_command("MGET", *keys)
        except redis.RedisError as error:
            self._breaker.failed()
            logger.warning("users cannot be read: %s", error)
            return [None] * len(user_ids)
        self._breaker.succeeded()
        return [
            _Packed(features, (history or b"")[-self._kept_bytes :])
            for features, history in zip(replies[::2], replies[1::2], strict=True)
        ]

    def _remember(self, user_id: str, packed: _Packed) -> None:
        """Keep a user for when the store is away; the one read longest ago makes room."""
        forgotten = self._known.pop(user_id, None)
        self._known[user_id] = packed
        self._known_bytes += _size(packed) - (0 if forgotten is None else _size(forgotten))
        while self._known_bytes > MAX_KNOWN_BYTES:
            _, oldest = self._known.popitem(last=False)
            self._known_bytes -= _size(oldest)

    def forget(self, user_ids: Iterable[str]) -> None:
        """Let go of users that are erased from the store."""
        for user_id in user_ids:
            packed = self._known.pop(user_id, None)
            self._known_bytes -= 0 if packed is None else _size(packed)

    async def append(
        self, user_id: str, keys: UInt64, ts_us: Int64, interaction_id: str | None
    ) -> int:
        """Append interactions; how many, 0 where `interaction_id` was appended before."""
        arguments: list[Any] = [
            _records(keys, ts_us),
            self._kept_bytes,
            interaction_id or "",
            REMEMBERED_INTERACTION_IDS,
        ]
        keys_of_user = [_history_key(user_id), _interactions_key(user_id)]
        appended = await self._append(keys=keys_of_user, args=arguments)
        return len(keys) if appended else 0

    async def put(
        self, user_id: str, features: Mapping[str, str | None], keys: UInt64, ts_us: Int64
    ) -> None:
        """Replace everything known about a user, also which interactions were seen."""
        order = np.argsort(ts_us, kind="stable")
        blob = _records(keys[order], ts_us[order])[-self._kept_bytes :]
        pipeline = self._client.pipeline(transaction=True)
        pipeline.set(_features_key(user_id), orjson.dumps(dict(features)))
        pipeline.set(_history_key(user_id), blob)
        pipeline.delete(_interactions_key(user_id))
        await pipeline.execute()


def _size(packed: _Packed) -> int:
    return len(packed.features or b"") + len(packed.history) + _ENTRY_BYTES


def user_keys(user_id: str) -> tuple[str, ...]:
    """The keys of everything known about a user in the store."""
    return _features_key(user_id), _history_key(user_id), _interactions_key(user_id)


def _features_key(user_id: str) -> str:
    # The braces keep all keys of a user on one node of a cluster.
    return f"user:{{{user_id}}}:features"


def _history_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:history"


def _interactions_key(user_id: str) -> str:
    return f"user:{{{user_id}}}:interactions"


def _records(keys: UInt64, ts_us: Int64) -> bytes:
    records = np.empty(len(keys), dtype=RECORD)
    records["key"], records["ts_us"] = keys, ts_us
    return records.tobytes()
