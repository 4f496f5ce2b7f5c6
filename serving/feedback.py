"""Feedback: judges each event alone, logs the good ones, says what is wrong with the others."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from abtest.event_log import Answer, EventLog
from abtest.events import (
    CLICK,
    CONVERSION,
    ClickEvent,
    ConversionEvent,
    FeedbackEvent,
    ImpressionEvent,
    new_event_id,
)
from serving.api import schemas
from serving.telemetry.metrics import Metrics
from training.features import to_ts_us

_MONEY = ("revenue_micros", "currency", "refund_of")


class FeedbackError(ValueError):
    """An event that cannot be taken; the message is the reason its sender is told."""


class Feedback:
    """Takes in what users did with the answers they got."""

    def __init__(self, *, log: EventLog, metrics: Metrics, clock: Callable[[], int]) -> None:
        """Log to `log`."""
        self._log = log
        self._metrics = metrics
        self._clock = clock

    async def take(self, raw_events: Sequence[dict[str, object]]) -> schemas.EventsResponse:
        """Log the good events of a batch; they are on disk when this returns.

        Raises:
            redis.RedisError: the store is away; nothing of the batch is acknowledged.
        """
        rejected: list[schemas.RejectedEvent] = []
        parsed: list[tuple[int, schemas.FeedbackEvent]] = []
        for index, raw in enumerate(raw_events):
            try:
                parsed.append((index, parse(raw)))
            except FeedbackError as error:
                rejected.append(schemas.RejectedEvent(index=index, reason=str(error)))
        answers = await self._log.answers([body.request_id for _, body in parsed])
        events: list[FeedbackEvent] = []
        now_us = self._clock()
        for index, body in parsed:
            try:
                events.append(attribute(body, answers.get(body.request_id), now_us))
            except FeedbackError as error:
                rejected.append(schemas.RejectedEvent(index=index, reason=str(error)))
        accepted = sum(await self._log.append_feedback(events))
        self._metrics.observe_feedback(accepted, len(events) - accepted, len(rejected))
        return schemas.EventsResponse(
            accepted=accepted,
            duplicates=len(events) - accepted,
            rejected=tuple(sorted(rejected, key=lambda r: r.index)),
        )


def parse(raw: dict[str, object]) -> schemas.FeedbackEvent:
    """Check an event by itself.

    Raises:
        FeedbackError: a field is missing, unknown, of a wrong type or contradicts another.
    """
    try:
        body = schemas.FeedbackEvent.model_validate(raw)
    except ValidationError as error:
        raise FeedbackError(_first_fault(error)) from error
    if body.type != CONVERSION:
        given = [name for name in _MONEY if getattr(body, name) is not None]
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


def attribute(body: schemas.FeedbackEvent, answer: Answer | None, now_us: int) -> FeedbackEvent:
    """Join an event to the answer it is about.

    Raises:
        FeedbackError: there is no such answer, or the item was not in it.
    """
    if answer is None:
        raise FeedbackError(
            f"request_id {body.request_id!r} is unknown; "
            "send the request_id of an answer of the last days"
        )
    if body.item_id not in answer.item_ids:
        raise FeedbackError(
            f"item_id {body.item_id!r} was not in answer {body.request_id}; "
            "feedback is about recommended items"
        )
    shared: dict[str, Any] = {
        "event_id": body.event_id or new_event_id(),
        "event_ts_us": to_ts_us(body.event_ts),
        "ingest_ts_us": now_us,
        "request_id": body.request_id,
        "unit": answer.unit,
        "experiments": answer.experiments,
        "item_id": body.item_id,
        "position": answer.item_ids.index(body.item_id),
    }
    if body.type == CONVERSION:
        money = {name: getattr(body, name) for name in _MONEY}
        return ConversionEvent(**shared, **money)
    return ClickEvent(**shared) if body.type == CLICK else ImpressionEvent(**shared)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    value = fault["input"] if isinstance(fault["input"], (str, int, float)) else None
    shown = f" (got {str(value)[:100]!r})" if value is not None else ""
    return f"{where}: {fault['msg']}{shown}"
