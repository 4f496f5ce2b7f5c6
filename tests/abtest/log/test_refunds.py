"""Refunds at the log: what is taken unchecked, and what is known of purchases."""

from collections import Counter
from pathlib import Path

import pytest
import redis
import redis.asyncio

from abtest.log.attribution import Report
from abtest.log.event_log import EventLog
from abtest.log.journal import open_journal
from abtest.log.record import event_key
from abtest.log.refunds import refused_refunds
from abtest.log.stream import REPORTS
from tests.abtest.log.running import opened, socket_of

pytestmark = pytest.mark.anyio


def refund(of: str, micros: int = 5, name: str = "back") -> Report:
    return Report("conversion", name, 1, 1, "r", "i", -micros, "USD", of)


async def refused(client: redis.asyncio.Redis, *claims: Report) -> dict[int, str]:
    return await refused_refunds(client, dict(enumerate(claims)), 100)


async def test_each_claim_is_judged_alone(async_valkey: redis.asyncio.Redis) -> None:
    await async_valkey.set(event_key("sold"), "10")
    found = await refused(
        async_valkey,
        refund("sold", 6, "a"),
        refund("sold", 6, "b"),
        refund("none", 1, "c"),
        refund("sold", 4, "d"),
        refund("sold", 6, "a"),
    )
    assert set(found) == {1, 2}
    assert found[1].startswith("revenue_micros -6 takes back more than is left of 'sold', which")
    assert found[2].startswith("refund_of 'none' is no conversion of the last days, or not known")
    assert 0 < await async_valkey.ttl("refunds:sold") <= 100


async def test_a_refund_that_is_sent_again_is_known_as_a_repeat(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    """By whichever process, also where nothing is left of the purchase; it takes nothing more."""
    path = socket_of(valkey)
    valkey.set(event_key("sold"), "10")
    part, rest = refund("sold", 6, "part"), refund("sold", 4, "rest")
    async with (
        opened(tmp_path, path) as (log, counts),
        opened(tmp_path, path) as (other, other_counts),
    ):
        for claim, new in ((part, True), (part, False), (rest, True), (part, False), (rest, False)):
            for asked, is_new in ((log, new), (other, False)):
                assert await asked.refused_refunds({0: claim}) == {}
                assert await asked.append_feedback([claim]) == [is_new]
        assert list(await log.refused_refunds({0: refund("sold", 1, "more")})) == [0]
    assert valkey.hgetall("refunds:sold") == {b"part": b"6", b"rest": b"4"}
    assert counts + other_counts == {}


async def test_purchases_without_a_known_revenue_are_believed(
    async_valkey: redis.asyncio.Redis,
) -> None:
    await async_valkey.set(event_key("of an earlier release"), "")
    await async_valkey.hset(REPORTS, "waits for its answer", "{}")
    claims = [refund("of an earlier release"), refund("waits for its answer")]
    assert await refused(async_valkey, *claims) == {}


async def test_while_the_store_is_away_refunds_are_taken_unchecked(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()

    def count(outcome: str, number: int) -> None:
        counts[outcome] += number

    away = redis.asyncio.Redis(unix_socket_path=str(tmp_path / "none.sock"))
    journal = open_journal(tmp_path)
    log = EventLog(journal, away, away, count=count, late=lambda _: None)
    assert log.behind
    assert await log.refused_refunds({0: refund("a"), 4: refund("b")}) == {}
    assert counts == {"refund_unchecked": 2}
    journal.close()
