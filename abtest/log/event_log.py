"""Event log: every event, once, whatever happens to the process, its store and its disk.

An event is written to the journal, on the local disk, and sent to the stream in the store; the
archive takes it from there. An answer leaves when it is in the journal, feedback is acknowledged
when the journal is synced. While the store is away or slow, events are in the journal only, and are
sent later, in order, once. Where the disk is full, answers go to the store alone, and feedback is
not acknowledged.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from abtest.events import FeedbackEvent, RankingEvent
from abtest.log.attribution import Answer, Report
from abtest.log.group_commit import GroupCommit
from abtest.log.journal import Journal, JournalError, open_abandoned
from abtest.log.outbox import Outbox, Taken
from abtest.log.pending import PendingReports
from abtest.log.record import Record, feedback_record, ranking_record, report_record
from abtest.log.refunds import refused_refunds
from abtest.log.stream import FIELD, PATIENT_TIMEOUT_S, STREAM, Commands, EventStream

__all__ = ["FIELD", "PATIENT_TIMEOUT_S", "STREAM", "Commands", "EventLog"]

RETENTION_S = 7 * 24 * 3600
GRACE_S = 60.0
SETTLE_INTERVAL_S = 1.0
RETRY_INTERVAL_S = 0.2
FIRST_CATCH_UP_S = 2.0
_ABANDONED_EVERY = 5
_RECENT_ANSWERS = 10_000
_RECENT_IDS = 100_000

LOG_SPOOLED = "log_spooled"
"""The event is on the local disk, and the store, which was away or slow, gets it later."""
REFUND_UNCHECKED = "refund_unchecked"
"""The refund is in the log, and its purchase was not looked at, as the store is away."""
LOG_NOT_SYNCED = "log_not_synced"
"""The answer's event is in the store and not on the local disk."""
NOT_LOGGED = "not_logged"
"""The answer's event is lost."""

Value = TypeVar("Value")

logger = logging.getLogger(__name__)

Count = Callable[[str, int], None]
"""Told how many records met an outcome out of the ordinary: one of the reasons above, `resent`, or
`unattributed` of feedback that waited for its answer."""


class EventLog:
    """Appends events; used from one event loop, inside `running`."""

    def __init__(
        self,
        journal: Journal,
        client: Commands,
        patient: Redis,
        *,
        count: Count,
        late: Callable[[FeedbackEvent], None],
        retention_s: int = RETENTION_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """Log to a journal and a store.

        Args:
            journal: of this process; closed at the end of `running`.
            client: of the store, with a timeout short enough for a request to wait for.
            patient: of the same store, with a timeout of at least `PATIENT_TIMEOUT_S`.
            count: told of what is out of the ordinary.
            late: told of feedback that was taken as reported and is attributed now.
            retention_s: how long feedback about an answer is taken and duplicates are recognised.
            grace_s: how long feedback waits for an answer that the store does not have yet.
        """
        self.retention_s = retention_s
        self._journal = journal
        self._count = count
        self._client = client
        self._stream = EventStream(client, patient, retention_s)
        self._outbox = Outbox(journal, self._stream, self._count_resent)
        self._pending = PendingReports(self._stream, count, late, grace_s, time.monotonic)
        self._commit = GroupCommit(journal.sync)
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._recent_ids: OrderedDict[str, None] = OrderedDict()
        self._journal_refuses = False
        self._away = False
        self._stopping = False

    @property
    def behind(self) -> bool:
        """Whether events are in the journal that were not sent to the store."""
        return self._outbox.behind

    @property
    def backlog_bytes(self) -> int:
        """Size of what the store does not have on its disk for sure."""
        return self._journal.backlog_bytes

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send what is left from before, then keep sending until the end of the block."""
        await self._first_attempt()
        tasks = [
            asyncio.create_task(self._keep_sending()),
            asyncio.create_task(self._keep_settling()),
        ]
        try:
            yield
        finally:
            self._stopping = True  # the client of the store can swallow a cancellation
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._commit.drain()
            await self._outbox.drain()
            self._journal.close()

    async def append_ranking(self, event: RankingEvent) -> tuple[str, ...]:
        """Log an answer; it survives the end of this process when this returns.

        The store gets it at once, but nobody waits for that: one that fails just now is counted as
        spooled, and it is the next answers that say so.

        Returns:
            Reasons why the answer is degraded; none if the log is whole.
        """
        _remember(
            self._answers,
            event.request_id,
            Answer(event.unit, event.experiments, event.item_ids),
            _RECENT_ANSWERS,
        )
        record = ranking_record(event)
        try:
            end = self._append([record])
        except JournalError:
            reason = (
                NOT_LOGGED if await self._outbox.put([record], None) is None else LOG_NOT_SYNCED
            )
        else:
            taken = self._outbox.put([record], end)
            if not taken.done():
                taken.add_done_callback(self._note_spooled)
                return ()
            reason = LOG_SPOOLED
        self._count(reason, 1)
        return (reason,)

    async def flush(self) -> None:
        """Return when the store has taken, or failed to take, what was logged before."""
        await self._outbox.drain()

    async def answers(self, request_ids: Sequence[str]) -> dict[str, Answer]:
        """The answers of `request_ids` that can be found now.

        Left out are unknown and expired ones, and those of other workers while the store is away.
        """
        names = list(dict.fromkeys(request_ids))
        found = {name: self._answers[name] for name in names if name in self._answers}
        missing = [name for name in names if name not in found]
        if missing and not self.behind:
            try:
                kept = await self._stream.answers(missing)
            except RedisError as error:
                logger.warning("answers cannot be looked up: %s", error)
            else:
                found |= {n: a for n, a in zip(missing, kept, strict=True) if a is not None}
        return found

    async def append_feedback(self, events: Sequence[FeedbackEvent | Report]) -> list[bool]:
        """Log feedback; it survives a power cut when this returns.

        Args:
            events: attributed where the answer was found, else as reported: it is then attributed
                when its answer is there.

        Returns:
            For each event True if it is new, False if its `event_id` was taken before, be it by an
            earlier event of the same call. While the store is away duplicates of what this process
            did not see count as new here, and once in the log.

        Raises:
            JournalError: the disk does not take it; nothing is acknowledged.
        """
        if not events:
            return []
        records = [
            report_record(event) if isinstance(event, Report) else feedback_record(event)
            for event in events
        ]
        taken = self._outbox.put(records, self._append(records))
        await self._commit.wait()
        known = await taken
        # In any case remembered: the store may be away when an event comes again.
        seen = [self._is_new(event.event_id) for event in events]
        if known is None:
            self._count(LOG_SPOOLED, len(records))
        return seen if known is None else known

    async def refused_refunds(self, claims: Mapping[int, Report]) -> dict[int, str]:
        """Which refunds are not to be logged, and why; none while the store lacks events.

        Args:
            claims: refunds, by any number; those not refused are to be logged next.
        """
        reason: object = "the store lacks events"
        if not self.behind:
            try:
                return await refused_refunds(self._client, claims, self.retention_s)
            except RedisError as error:
                reason = error
        logger.warning("%d refunds are taken unchecked: %s", len(claims), reason)
        self._count(REFUND_UNCHECKED, len(claims))
        return {}

    def forget(self, units: Collection[str]) -> None:
        """Let go of what is remembered of units that are erased; the journal follows when it can.

        Raises:
            JournalError: the journal cannot delete what the store has.
        """
        for request_id, answer in list(self._answers.items()):
            if answer.unit in units:
                del self._answers[request_id]
        self._journal.rotate()

    def _append(self, records: Sequence[Record]) -> int:
        try:
            end = self._journal.append([record.pack() for record in records])
        except JournalError as error:
            if not self._journal_refuses:
                logger.error("%s", error)  # noqa: TRY400  # the trace would say nothing more
            self._journal_refuses = True
            raise
        self._journal_refuses = False
        return end

    def _is_new(self, event_id: str) -> bool:
        new = event_id not in self._recent_ids
        _remember(self._recent_ids, event_id, None, _RECENT_IDS)
        return new

    def _note_spooled(self, taken: Taken) -> None:
        if taken.result() is None:
            self._count(LOG_SPOOLED, 1)

    def _count_resent(self, number: int) -> None:
        self._count("resent", number)

    async def _first_attempt(self) -> None:
        """Be up to date before the first request where that is a matter of moments."""
        try:
            async with asyncio.timeout(FIRST_CATCH_UP_S):
                await self._outbox.catch_up()
        except (RedisError, TimeoutError) as error:
            _warn("events stay in the journal until the store takes them", error)
            self._away = True

    async def _keep_sending(self) -> None:
        while not self._stopping:
            await self._outbox.fell_behind.wait()
            try:
                await self._outbox.catch_up()
            except Exception as error:  # whatever it is, it is tried again
                if not self._away:
                    _warn("events stay in the journal until the store takes them", error)
                self._away = True
                await asyncio.sleep(RETRY_INTERVAL_S)
            else:
                if self._away:
                    logger.warning("the store takes events again, and has those of the journal")
                self._away = False

    async def _keep_settling(self) -> None:
        turn = 0
        while not self._stopping:
            turn += 1
            await asyncio.sleep(SETTLE_INTERVAL_S)
            if self._away:
                continue
            try:
                await self._outbox.settle()
                await self._pending.attribute()
                if turn % _ABANDONED_EVERY == 0:
                    await self._send_abandoned()
            except Exception as error:  # whatever it is, it is tried again
                _warn("the log is not settled", error)

    async def _send_abandoned(self) -> None:
        """Send what workers left behind that are gone and not started again."""
        for journal in open_abandoned(self._journal.folder.parent):
            try:
                logger.warning("sending what is left in %s", journal.folder)
                outbox = Outbox(journal, self._stream, self._count_resent)
                await outbox.catch_up()
                await outbox.settle()
            finally:
                journal.close()


def _warn(what: str, error: Exception) -> None:
    expected = isinstance(error, RedisError | JournalError | TimeoutError)
    logger.warning("%s: %r", what, error, exc_info=None if expected else error)


def _remember(recent: OrderedDict[str, Value], key: str, value: Value, limit: int) -> None:
    recent[key] = value
    if len(recent) > limit:
        recent.popitem(last=False)
