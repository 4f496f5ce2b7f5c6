"""Tombstones: which units were erased, and up to when, so that late events do not bring them back.

An event can wait in a journal when its unit is erased. A tombstone stays for good; it holds a
digest, not the unit. What is taken in after the erasure is new and stays.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from redis import Redis

from abtest.events import Event, RankingEvent
from abtest.log.record import answer_key

ERASURES: Final = "erasures"
"""Hash in the store: digest of a unit -> receipt of its newest erasure, as JSON."""
_UNTIL = "erased_until_us"


def digest(unit: str) -> str:
    """Name of a unit in what stays of it, 32 hexadecimal digits."""
    return hashlib.blake2b(unit.encode(), digest_size=16, person=b"erased unit").hexdigest()


@dataclass(frozen=True)
class Tombstones:
    """Units that were erased."""

    until_us: Mapping[str, int]
    """By the digest of a unit: events taken in up to then are erased."""

    def cover(self, unit: str, ingest_ts_us: int) -> bool:
        """Whether an event is erased."""
        if not self.until_us:
            return False
        return ingest_ts_us <= self.until_us.get(digest(unit), -1)


def read_tombstones(client: Redis) -> Tombstones:
    """All tombstones of the store."""
    kept = cast("dict[bytes, bytes]", client.hgetall(ERASURES))
    return Tombstones({name.decode(): orjson.loads(text)[_UNTIL] for name, text in kept.items()})


def forget_answers(client: Redis, erased: Sequence[Event]) -> None:
    """Let the store forget what feedback would need to know about erased answers."""
    forget_requests(client, [e.request_id for e in erased if isinstance(e, RankingEvent)])


def forget_requests(client: Redis, request_ids: Sequence[str]) -> None:
    """Let the store forget what feedback would need to know about some answers."""
    keys: list[Any] = [answer_key(name) for name in request_ids]
    if keys:
        client.delete(*keys)
