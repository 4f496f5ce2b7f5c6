"""Outbox: what becomes of events while the store is away, and when it is back."""

import asyncio
import shutil
import signal
from pathlib import Path

import pytest
import redis
import redis.asyncio

from abtest.events import RankingEvent
from abtest.log.event_log import STREAM
from tests.abtest.log.mortal import Mortal
from tests.abtest.log.running import caught_up, logged, opened, socket_of
from tests.abtest.traffic import assignment, click, ranking

pytestmark = pytest.mark.anyio


async def test_store_that_is_away_gets_everything_later_in_order_once(
    mortal: Mortal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [ranking(f"r{number}", "u", [assignment("new")]) for number in range(6)]
    async with opened(tmp_path, mortal.socket) as (log, counts):
        assert log.behind
        assert await log.append_ranking(answers[0]) == ("log_spooled",)
        mortal.start()
        await caught_up(log)
        assert await log.append_ranking(answers[1]) == ()
        await log.flush()
        mortal.signal(signal.SIGKILL)
        assert await log.append_ranking(answers[2]) == ()  # nobody has noticed
        await log.flush()
        found = await log.answers(["r2"])
        assert found["r2"].unit == "u"
        clicks = [click(answers[2], position) for position in (0, 1, 0)]
        assert await log.append_feedback(clicks) == [True, True, False]
        assert await log.append_feedback(clicks[:1]) == [False]
        assert await log.append_ranking(answers[3]) == ("log_spooled",)
        mortal.stop()
        mortal.start()
        await caught_up(log)
        assert await log.append_ranking(answers[4]) == ()
        await log.flush()
        mortal.signal(signal.SIGSTOP)
        started = asyncio.get_running_loop().time()
        assert await log.append_ranking(answers[5]) == ()
        await log.flush()
        assert await log.append_ranking(answers[5]) == ("log_spooled",)
        assert asyncio.get_running_loop().time() - started < 2
        mortal.signal(signal.SIGCONT)
        await caught_up(log)
    expected = [*answers[:3], clicks[0], clicks[1], *answers[3:]]
    assert logged(mortal.client()) == expected
    assert counts["log_spooled"] == 8 + 1
    assert "the store takes events again" in caplog.text


async def test_an_answer_does_not_wait_for_the_store(mortal: Mortal, tmp_path: Path) -> None:
    events = [ranking(f"r{number}", "u", []) for number in range(3)]
    client = mortal.start()
    async with opened(tmp_path, mortal.socket) as (log, counts):
        mortal.signal(signal.SIGSTOP)
        for event in events:
            assert await log.append_ranking(event) == ()
        mortal.signal(signal.SIGCONT)
        await log.flush()
        assert not log.behind
        assert logged(client) == events
        await log.append_ranking(ranking("r3", "u", []))
    assert len(logged(client)) == 4, "the end waits for what is under way"
    assert not counts


async def test_what_comes_while_the_rest_is_sent_goes_behind_it(
    mortal: Mortal, tmp_path: Path
) -> None:
    early = [ranking(f"early {number}", "u", []) for number in range(1500)]
    late: list[RankingEvent] = []
    spooled = len(early)
    async with opened(tmp_path, mortal.socket) as (log, counts):
        for event in early:
            assert await log.append_ranking(event) == ("log_spooled",)
        client = mortal.start()
        async with asyncio.timeout(10):
            while log.behind:
                if client.xlen(STREAM):
                    late.append(ranking(f"late {len(late)}", "u", []))
                    spooled += await log.append_ranking(late[-1]) == ("log_spooled",)
                await asyncio.sleep(0)
        late.append(ranking("last", "u", []))
        assert await log.append_ranking(late[-1]) == ()
    assert spooled > len(early)
    assert logged(client) == [*early, *late]
    assert counts["resent"] == spooled


async def test_what_a_restarted_store_lost_is_sent_again(
    mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that comes back without its last second, before anyone noticed that it was away."""
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.1)
    events = [ranking(f"r{number}", "u", []) for number in range(3)]
    client = mortal.start()
    async with opened(tmp_path, mortal.socket) as (log, counts):
        for event in events[:2]:
            await log.append_ranking(event)
        await log.flush()
        mortal.signal(signal.SIGKILL)
        mortal.stop()
        shutil.rmtree(mortal.folder / "data")
        client = mortal.start()
        await asyncio.sleep(0.01)  # the client sees that its connection is gone, and says nothing
        assert await log.append_ranking(events[2]) in [(), ("log_spooled",)]
        async with asyncio.timeout(10):
            while counts["resent"] < 2:
                await asyncio.sleep(0.02)
        await caught_up(log)
        assert sorted(e.event_id for e in logged(client)) == ["e-r0", "e-r1", "e-r2"]


async def test_journal_forgets_what_the_store_has_on_its_disk(
    mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.05)
    client = mortal.start()
    async with opened(tmp_path, mortal.socket) as (log, counts):
        await log.append_ranking(ranking("r1", "u", []))
        assert log.backlog_bytes > 0
        async with asyncio.timeout(10):
            while log.backlog_bytes:
                await asyncio.sleep(0.02)
        client.flushall()
    async with opened(tmp_path, mortal.socket) as (log, counts):
        assert not log.behind
    assert logged(client) == []
    assert counts["resent"] == 0


async def test_journal_keeps_what_the_store_has_not_on_its_disk(
    mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.05)
    monkeypatch.setattr("abtest.log.stream.SYNC_TIMEOUT_MS", 50)
    client = mortal.start()
    async with opened(tmp_path, mortal.socket) as (log, _):
        client.config_set("appendfsync", "no")  # from now on it does not sync
        await log.append_ranking(ranking("r1", "u", []))
        await asyncio.sleep(0.5)
        assert log.backlog_bytes > 0
        client.config_set("appendfsync", "everysec")
        async with asyncio.timeout(10):
            while log.backlog_bytes:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("setting", [{"appendonly": "no"}, {"appendfsync": "no"}])
async def test_store_that_keeps_nothing_on_disk_is_believed(
    mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, str]
) -> None:
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.05)
    client = mortal.start()
    for name, value in setting.items():
        client.config_set(name, value)
    async with opened(tmp_path, mortal.socket) as (log, _):
        await log.append_ranking(ranking("r1", "u", []))
        async with asyncio.timeout(10):
            while log.backlog_bytes:
                await asyncio.sleep(0.02)


async def test_left_behind_journals_are_sent(
    valkey: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.05)
    async with (
        opened(tmp_path, "/nonexistent") as (first, _),
        opened(tmp_path, "/nonexistent") as (second, _),
    ):
        for log, name in ((first, "a"), (second, "b")):
            assert await log.append_ranking(ranking(name, "u", [])) == ("log_spooled",)
    async with opened(tmp_path, socket_of(valkey)):
        async with asyncio.timeout(10):
            while valkey.xlen(STREAM) < 2:
                await asyncio.sleep(0.02)
    assert [event.request_id for event in logged(valkey)] == ["a", "b"]
