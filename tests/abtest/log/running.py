"""A running log, and what the store has of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from abtest.events import EVENT_ADAPTER, Event
from abtest.log.event_log import FIELD, PATIENT_TIMEOUT_S, STREAM, EventLog
from abtest.log.journal import open_journal


@asynccontextmanager
async def opened(
    root: Path, socket_path: str, *, grace_s: float = 60.0, retention_s: int = 100
) -> AsyncIterator[tuple[EventLog, Counter[str]]]:
    """A running log, and what it counts."""
    counts: Counter[str] = Counter()

    def count(outcome: str, number: int) -> None:
        counts[outcome] += number

    def client(timeout_s: float) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(
            unix_socket_path=socket_path, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )

    async with client(0.2) as quick, client(PATIENT_TIMEOUT_S) as patient:
        log = EventLog(
            open_journal(root),
            quick,
            patient,
            count=count,
            late=lambda event: count(f"late {event.event_id}", 1),
            retention_s=retention_s,
            grace_s=grace_s,
        )
        async with log.running():
            yield log, counts


def logged(client: redis.Redis) -> list[Event]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(STREAM))
    return [EVENT_ADAPTER.validate_json(fields[FIELD.encode()]) for _, fields in entries]


def socket_of(client: redis.Redis) -> str:
    return str(client.get_connection_kwargs()["path"])


async def caught_up(log: EventLog) -> None:
    async with asyncio.timeout(10):
        while log.behind:
            await asyncio.sleep(0.01)
