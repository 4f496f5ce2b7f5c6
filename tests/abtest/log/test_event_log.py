"""Event log: what is taken, in which order, and what is acknowledged."""

import asyncio
import logging
import resource
import signal
from pathlib import Path

import pytest
import redis
import redis.asyncio

from abtest.events import FeedbackEvent
from abtest.log.attribution import Answer, Report
from abtest.log.event_log import STREAM
from abtest.log.journal import JournalError
from tests.abtest.log.mortal import Mortal
from tests.abtest.log.running import caught_up, logged, opened, socket_of
from tests.abtest.traffic import assignment, click, conversion, impression, ranking

pytestmark = pytest.mark.anyio


def reported(event: FeedbackEvent) -> Report:
    shared = event.model_dump(include=set(Report._fields))
    return Report(**shared)


async def test_ranking_is_in_the_stream_and_its_answer_is_found(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    event = ranking("r1", "u1", [assignment("new")])
    kept = {"r1": Answer("u1", (assignment("new"),), event.item_ids)}
    async with opened(tmp_path, socket_of(valkey)) as (log, counts):
        assert await log.append_ranking(event) == ()
        await log.flush()
        assert logged(valkey) == [event]
        assert await log.answers(["r1", "unknown", "r1"]) == kept
        assert 90 < valkey.ttl("answer:r1") <= 100
        assert not counts
    async with opened(tmp_path, socket_of(valkey)) as (another, counts):
        assert await another.answers(["unknown", "r1"]) == kept
        assert await another.append_feedback([]) == []
        assert logged(valkey) == [event]
        assert counts["resent"] == 0


async def test_feedback_is_appended_once(valkey: redis.Redis, tmp_path: Path) -> None:
    answer = ranking("r1", "u1", [assignment("new")])
    seen, clicked, bought = impression(answer, 0), click(answer, 0), conversion(answer, 0, 5)
    async with opened(tmp_path, socket_of(valkey)) as (log, _):
        assert await log.append_feedback([seen, clicked, seen]) == [True, True, False]
        assert await log.append_feedback([clicked, bought]) == [False, True]
    assert logged(valkey) == [seen, clicked, bought]
    assert 90 < valkey.ttl(f"event:{seen.event_id}") <= 100


async def test_a_thousand_events_take_one_call_and_their_order(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    answer = ranking("r1", "u1", [])
    events = [click(answer, 0, event_id=f"k{number}") for number in range(1000)]
    async with opened(tmp_path, socket_of(valkey)) as (log, _):
        assert await log.append_feedback(events) == [True] * 1000
        assert logged(valkey) == events
        rankings = [ranking(f"r{number}", "u", []) for number in range(600)]
        replies = await asyncio.gather(*map(log.append_ranking, rankings))
    assert replies == [()] * 600
    assert logged(valkey) == [*events, *rankings]


async def test_a_store_that_lost_its_scripts_still_works(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    answer = ranking("r1", "u1", [])
    async with opened(tmp_path, socket_of(valkey)) as (log, counts):
        assert await log.append_feedback([click(answer, 0)]) == [True]
        valkey.script_flush()
        assert await log.append_feedback([click(answer, 0), click(answer, 1)]) == [False, True]
        assert not counts


async def test_a_refused_append_takes_no_event_id_and_is_sent_again(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    event = click(ranking("r1", "u1", []), 0)
    async with opened(tmp_path, socket_of(valkey)) as (log, counts):
        valkey.set(STREAM, "not a stream")
        assert await log.append_feedback([event]) == [True]
        assert log.behind
        assert not valkey.exists(f"event:{event.event_id}")
        valkey.delete(STREAM)
        await caught_up(log)
        assert logged(valkey) == [event]
        assert counts == {"log_spooled": 1, "resent": 1}


async def test_reports_are_attributed_when_their_answer_comes(
    valkey: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.05)
    answer = ranking("r1", "u1", [assignment("new")])
    bought, clicked = conversion(answer, 0, 5), click(answer, 1)
    strange = reported(click(answer, 2))._replace(item_id="never shown", event_id="strange")
    again = reported(bought)._replace(revenue_micros=9)
    reports = [reported(bought), reported(clicked), strange, again]
    async with (
        opened(tmp_path, socket_of(valkey)) as (log, counts),
        opened(tmp_path, socket_of(valkey)) as (other, other_counts),
    ):
        assert await log.append_feedback(reports) == [True, True, True, False]
        await asyncio.sleep(0.2)
        assert logged(valkey) == []
        assert await other.append_feedback([clicked]) == [True]
        await other.append_ranking(answer)
        async with asyncio.timeout(10):
            while valkey.exists("events:reports"):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
    assert logged(valkey) == [clicked, answer, bought]
    late = [name for name in (counts + other_counts).elements() if name.startswith("late")]
    assert late == [f"late {bought.event_id}"]
    assert "was not in answer r1" in caplog.text


async def test_report_whose_answer_never_comes_is_counted_and_named(
    valkey: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("abtest.log.event_log.SETTLE_INTERVAL_S", 0.05)
    report = reported(click(ranking("r1", "u1", []), 0))
    async with opened(tmp_path, socket_of(valkey), grace_s=0.2) as (log, counts):
        with caplog.at_level(logging.ERROR):
            assert await log.append_feedback([report]) == [True]
            async with asyncio.timeout(10):
                while not counts["unattributed"]:
                    await asyncio.sleep(0.02)
    assert not valkey.exists("events:reports")
    assert f"feedback {report} is not attributed: its answer is not in the log" in caplog.text


async def test_full_disk_leaves_answers_to_the_store_and_takes_no_feedback(
    mortal: Mortal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = mortal.start()
    answers = [ranking(f"r{number}", "u", []) for number in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with opened(tmp_path, mortal.socket) as (log, counts):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
            assert await log.append_ranking(answers[0]) == ("log_not_synced",)
            with pytest.raises(JournalError, match=r"cannot be written \(File too large\)"):
                await log.append_feedback([click(answers[0], 0)])
            mortal.signal(signal.SIGKILL)
            assert await log.append_ranking(answers[1]) == ("not_logged",)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert await log.append_ranking(answers[2]) == ("log_spooled",)
        assert await log.append_feedback([click(answers[0], 0)]) == [True]
        mortal.stop()
        client = mortal.start()
        await caught_up(log)
    assert logged(client) == [answers[0], answers[2], click(answers[0], 0)]
    assert counts["not_logged"] == counts["log_not_synced"] == 1
    assert caplog.text.count("cannot be written (File too large)") == 1


async def test_disk_that_does_not_sync_acknowledges_nothing(
    valkey: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    event = click(ranking("r1", "u", []), 0)
    async with opened(tmp_path, socket_of(valkey)) as (log, _):
        with monkeypatch.context() as broken:
            broken.setattr("abtest.log.journal.os.fsync", refuse)
            with pytest.raises(JournalError, match=r"cannot be synced \(Input/output error\)"):
                await log.append_feedback([event])
        assert await log.append_feedback([event]) == [False]
    assert logged(valkey) == [event]
