"""What the store knows about a user: features, and a history packed into one blob.

A history is a string of 16-byte records, oldest first: item key (uint64) and time in microseconds
(int64), little endian. Appending is one APPEND, reading the newest entries one GETRANGE.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
import redis.asyncio

from training.features import Int64, UInt64

RECORD = np.dtype([("key", "<u8"), ("ts_us", "<i8")])
REMEMBERED_INTERACTION_IDS = 1000
"""So many of a user's last lists of interactions are recognized when they come again."""

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


class FeatureStore:
    """Reads and writes users."""

    def __init__(self, client: redis.asyncio.Redis, history_length: int) -> None:
        """Keep at least the newest `history_length` interactions of every user."""
        self._client = client
        self._kept_bytes = history_length * RECORD.itemsize
        self._append = client.register_script(_APPEND)

    async def fetch(self, user_id: str) -> UserState:
        """Features and newest interactions of a user, in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(_features_key(user_id))
        pipeline.getrange(_history_key(user_id), -self._kept_bytes, -1)
        raw, blob = await pipeline.execute()
        history = np.frombuffer(blob, dtype=RECORD)
        features: dict[str, str | None] = orjson.loads(raw) if raw else {}
        return UserState(
            features, history["key"].astype(np.uint64), history["ts_us"].astype(np.int64)
        )

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
