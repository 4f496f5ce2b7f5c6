"""Feedback: judges each event alone, logs the good ones, says what is wrong with the others."""

from collections.abc import Callable, Sequence

from pydantic import TypeAdapter, ValidationError

from abtest.events import CONVERSION, FeedbackEvent, new_event_id
from abtest.log.attribution import MONEY, Answer, AttributionError, Report, attribute
from abtest.log.event_log import EventLog
from serving.api import schemas
from serving.telemetry.metrics import Metrics
from training.features import to_ts_us

_TIME_DIGITS = 12
"""An id begins with the milliseconds of its making (UUID version 7), in hexadecimal."""


_MANY = TypeAdapter(list[schemas.FeedbackEvent])


class FeedbackError(ValueError):
    """An event that cannot be taken; the message is the reason its sender is told."""


class Feedback:
    """Takes in what users did with the answers they got."""

    def __init__(
        self,
        *,
        log: EventLog,
        metrics: Metrics,
        clock: Callable[[], int],
        genuine: Callable[[str], bool],
    ) -> None:
        """Log to `log`.

        Args:
            log: that events are appended to.
            metrics: that events are counted in.
            clock: microseconds since the Unix epoch.
            genuine: whether a request id was made by this server or another of its workers.
        """
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._genuine = genuine

    async def take(self, raw_events: Sequence[dict[str, object]]) -> schemas.EventsResponse:
        """Log the good events of a batch; they survive a power cut when this returns.

        An event about a genuine answer that cannot be found now, because the store is away or does
        not have it yet, is taken too, and attributed later. A refund is judged after the purchases
        of its batch.

        Raises:
            JournalError: the disk does not take them; of a batch without refunds nothing is
                acknowledged, of one with refunds nothing may be, and it can be sent again.
        """
        reasons: dict[int, str] = {}
        reports = _read(raw_events, self._clock(), reasons)
        answers = await self._log.answers([report.request_id for report in reports.values()])
        events: dict[int, FeedbackEvent | Report] = {}
        for index, report in reports.items():
            try:
                events[index] = self._judge(report, answers.get(report.request_id))
            except (FeedbackError, AttributionError) as error:
                reasons[index] = str(error)
        refunds = {index for index in events if reports[index].refund_of is not None}
        taken = await self._append([e for i, e in events.items() if i not in refunds])
        if refunds:
            claims = {index: reports[index] for index in sorted(refunds)}
            reasons |= await self._log.refused_refunds(claims)
            taken += await self._append([events[i] for i in claims if i not in reasons])
        accepted = sum(taken)
        self._metrics.observe_feedback(accepted, len(taken) - accepted, len(reasons))
        return schemas.EventsResponse(
            accepted=accepted,
            duplicates=len(taken) - accepted,
            rejected=tuple(
                schemas.RejectedEvent(index=index, reason=reasons[index])
                for index in sorted(reasons)
            ),
        )

    async def _append(self, events: Sequence[FeedbackEvent | Report]) -> list[bool]:
        taken = await self._log.append_feedback(events)
        self._metrics.observe_outcomes(
            event
            for event, new in zip(events, taken, strict=True)
            if new and not isinstance(event, Report)
        )
        return taken

    def _judge(self, report: Report, answer: Answer | None) -> FeedbackEvent | Report:
        if answer is not None:
            return attribute(report, answer)
        if self._genuine(report.request_id):
            made_us = int(report.request_id[:_TIME_DIGITS], 16) * 1000
            if report.ingest_ts_us - made_us < self._log.retention_s * 1_000_000:
                return report
        raise FeedbackError(
            f"request_id {report.request_id!r} is unknown; "
            "send the request_id of an answer of the last days"
        )


def _read(
    raw_events: Sequence[dict[str, object]], now_us: int, reasons: dict[int, str]
) -> dict[int, Report]:
    """The good events by their index; of the others the reasons are noted."""
    try:
        bodies = _MANY.validate_python(raw_events)  # together, which is how they mostly are
    except ValidationError:
        bodies = None
    reports: dict[int, Report] = {}
    for index, raw in enumerate(raw_events):
        try:
            body = parse(raw) if bodies is None else _consistent(bodies[index])
            reports[index] = _report(body, now_us)
        except FeedbackError as error:
            reasons[index] = str(error)
    return reports


def parse(raw: dict[str, object]) -> schemas.FeedbackEvent:
    """Check an event by itself.

    Raises:
        FeedbackError: a field is missing, unknown, of a wrong type or contradicts another.
    """
    try:
        return _consistent(schemas.FeedbackEvent.model_validate(raw))
    except ValidationError as error:
        raise FeedbackError(_first_fault(error)) from error


def _consistent(body: schemas.FeedbackEvent) -> schemas.FeedbackEvent:
    if body.type != CONVERSION:
        given = [name for name in MONEY if getattr(body, name) is not None]
        if given:
            raise FeedbackError(
                f"{given[0]} is for conversions only; send a conversion beside this {body.type}"
            )
        return body
    if body.revenue_micros is None or body.currency is None:
        missing = "revenue_micros" if body.revenue_micros is None else "currency"
        raise FeedbackError(f"{missing} is missing; a conversion needs revenue_micros and currency")
    if body.revenue_micros < 0 and body.refund_of is None:
        raise FeedbackError(
            f"revenue_micros {body.revenue_micros} is negative; "
            "a refund names the conversion it takes back in refund_of"
        )
    if body.revenue_micros >= 0 and body.refund_of is not None:
        raise FeedbackError(
            f"revenue_micros {body.revenue_micros} must be negative where refund_of is set"
        )
    return body


def _report(body: schemas.FeedbackEvent, now_us: int) -> Report:
    return Report(
        type=body.type,
        event_id=body.event_id or new_event_id(),
        event_ts_us=to_ts_us(body.event_ts),
        ingest_ts_us=now_us,
        request_id=body.request_id,
        item_id=body.item_id,
        revenue_micros=body.revenue_micros,
        currency=body.currency,
        refund_of=body.refund_of,
    )


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    value = fault["input"] if isinstance(fault["input"], (str, int, float)) else None
    shown = f" (got {str(value)[:100]!r})" if value is not None else ""
    return f"{where}: {fault['msg']}{shown}"
