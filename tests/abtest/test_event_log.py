from pathlib import Path
from typing import cast

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import ResponseError

from abtest.event_log import FIELD, STREAM, Answer, EventLog
from abtest.events import EVENT_ADAPTER, Event
from tests.abtest.traffic import assignment, click, conversion, impression, ranking

pytestmark = pytest.mark.anyio


def logged(client: redis.Redis) -> list[Event]:
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(STREAM))
    return [EVENT_ADAPTER.validate_json(fields[FIELD.encode()]) for _, fields in entries]


async def test_ranking_is_in_the_stream_and_its_answer_is_found(
    async_valkey: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    log = EventLog(async_valkey, retention_s=100)
    event = ranking("r1", "u1", [assignment("new")])
    await log.append_ranking(event)
    assert logged(valkey) == [event]
    assert await log.answers(["r1", "unknown", "r1"]) == {
        "r1": Answer("u1", (assignment("new"),), event.item_ids)
    }
    assert 90 < valkey.ttl("answer:r1") <= 100


async def test_no_request_ids_need_no_store() -> None:
    nowhere = EventLog(redis.asyncio.Redis(unix_socket_path="/nonexistent"))
    assert await nowhere.answers([]) == {}
    assert await nowhere.append_feedback([]) == []


async def test_feedback_is_appended_once(
    async_valkey: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    log = EventLog(async_valkey, retention_s=100)
    answer = ranking("r1", "u1", [assignment("new")])
    seen, clicked, bought = impression(answer, 0), click(answer, 0), conversion(answer, 0, 5)
    assert await log.append_feedback([seen, clicked, seen]) == [True, True, False]
    assert await log.append_feedback([clicked, bought]) == [False, True]
    assert logged(valkey) == [seen, clicked, bought]
    assert 90 < valkey.ttl(f"event:{seen.event_id}") <= 100


async def test_a_thousand_events_take_one_call(
    async_valkey: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    answer = ranking("r1", "u1", [])
    events = [click(answer, 0, event_id=f"k{number}") for number in range(1000)]
    assert await EventLog(async_valkey).append_feedback(events) == [True] * 1000
    assert valkey.xlen(STREAM) == 1000


async def test_a_refused_append_takes_no_event_id(
    async_valkey: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    log = EventLog(async_valkey)
    event = click(ranking("r1", "u1", []), 0)
    valkey.set(STREAM, "not a stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await log.append_feedback([event])
    valkey.delete(STREAM)
    assert await log.append_feedback([event]) == [True]


async def test_a_store_that_lost_its_scripts_still_works(
    async_valkey: redis.asyncio.Redis, valkey: redis.Redis
) -> None:
    log = EventLog(async_valkey)
    answer = ranking("r1", "u1", [])
    assert await log.append_feedback([click(answer, 0)]) == [True]
    valkey.script_flush()
    assert await log.append_feedback([click(answer, 0), click(answer, 1)]) == [False, True]


async def test_errors_of_the_client_propagate(tmp_path: Path) -> None:
    log = EventLog(
        redis.asyncio.Redis(
            unix_socket_path=str(tmp_path / "none"), retry=Retry(NoBackoff(), retries=0)
        )
    )
    with pytest.raises(StoreConnectionError):
        await log.append_ranking(ranking("r1", "u1", []))
    with pytest.raises(StoreConnectionError):
        await log.append_feedback([click(ranking("r1", "u1", []), 0)])
