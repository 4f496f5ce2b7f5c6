"""Refunds at the log: what is taken unchecked, and what is known of purchases."""

from collections import Counter
from pathlib import Path

import pytest
import redis.asyncio

from abtest.log.attribution import Report
from abtest.log.event_log import EventLog
from abtest.log.journal import open_journal
from abtest.log.record import event_key
from abtest.log.refunds import refused_refunds
from abtest.log.stream import REPORTS

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
