"""Pending reports: feedback that the store got before the answer it is about.

The answer may still be in the journal of another process, which sends it when it can. A report
whose answer does not come in time, or does not have its item, cannot be attributed: it is counted
and written to the process's log, and waits no longer.
"""

import logging
from collections.abc import Callable

from abtest.events import FeedbackEvent
from abtest.log.attribution import REPORT, Answer, AttributionError, Report, attribute
from abtest.log.record import feedback_record
from abtest.log.stream import EventStream

logger = logging.getLogger(__name__)


class PendingReports:
    """Attributes the reports that wait in the store; any number of processes may do so at once."""

    def __init__(
        self,
        stream: EventStream,
        count: Callable[[str, int], None],
        late: Callable[[FeedbackEvent], None],
        grace_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Attribute the reports of a stream.

        Args:
            stream: that they wait beside.
            count: told how many stay `unattributed`.
            late: told of every event that is in the log at last.
            grace_s: how long this process waits for the answer of a report that it has seen.
            clock: seconds, from any beginning.
        """
        self._stream = stream
        self._count = count
        self._late = late
        self._grace_s = grace_s
        self._clock = clock
        self._seen_s: dict[bytes, float] = {}

    async def attribute(self) -> None:
        """Attribute what can be, give up what has waited too long.

        Raises:
            redis.RedisError: the store is away.
        """
        waiting = await self._stream.reports()
        now_s = self._clock()
        self._seen_s = {event_id: self._seen_s.get(event_id, now_s) for event_id in waiting}
        if not waiting:
            return
        reports = {event_id: REPORT.validate_json(text) for event_id, text in waiting.items()}
        answers = await self._stream.answers(
            [report.request_id for report in reports.values()], patient=True
        )
        for (event_id, report), answer in zip(reports.items(), answers, strict=True):
            if answer is not None:
                await self._settle(event_id, report, answer)
            elif now_s - self._seen_s[event_id] > self._grace_s:
                await self._give_up(event_id, report, "its answer is not in the log")

    async def _settle(self, event_id: bytes, report: Report, answer: Answer) -> None:
        try:
            event = attribute(report, answer)
        except AttributionError as error:
            await self._give_up(event_id, report, str(error))
            return
        [new] = await self._stream.append([feedback_record(event)], patient=True)
        await self._stream.drop_report(event_id)
        if new:
            self._late(event)

    async def _give_up(self, event_id: bytes, report: Report, reason: str) -> None:
        if await self._stream.drop_report(event_id):
            self._count("unattributed", 1)
            logger.error("feedback %s is not attributed: %s", report, reason)
