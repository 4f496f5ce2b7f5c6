"""Attribution: joins what a user did to the answer it is about."""

from typing import Any, NamedTuple

from pydantic import TypeAdapter

from abtest.events import (
    CLICK,
    CONVERSION,
    Assignment,
    ClickEvent,
    ConversionEvent,
    FeedbackEvent,
    ImpressionEvent,
)

MONEY = ("revenue_micros", "currency", "refund_of")
"""Fields of conversions only."""


class AttributionError(ValueError):
    """Feedback and answer do not fit; the message is the reason its sender is told."""


class Answer(NamedTuple):
    """What feedback needs to know about the answer it names."""

    unit: str
    experiments: tuple[Assignment, ...]
    item_ids: tuple[str, ...]


class Report(NamedTuple):
    """Feedback before it is known which answer it is about."""

    type: str
    """One of `FEEDBACK_TYPES`."""
    event_id: str
    event_ts_us: int
    ingest_ts_us: int
    request_id: str
    item_id: str
    revenue_micros: int | None = None
    """Of a conversion, like the following."""
    currency: str | None = None
    refund_of: str | None = None


ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def attribute(report: Report, answer: Answer) -> FeedbackEvent:
    """The event that a report is, known whose it is.

    Raises:
        AttributionError: the item was not in the answer.
    """
    if report.item_id not in answer.item_ids:
        raise AttributionError(
            f"item_id {report.item_id!r} was not in answer {report.request_id}; "
            "feedback is about recommended items"
        )
    shared: dict[str, Any] = {
        "event_id": report.event_id,
        "event_ts_us": report.event_ts_us,
        "ingest_ts_us": report.ingest_ts_us,
        "request_id": report.request_id,
        "unit": answer.unit,
        "experiments": answer.experiments,
        "item_id": report.item_id,
        "position": answer.item_ids.index(report.item_id),
    }
    if report.type == CONVERSION:
        money = {name: getattr(report, name) for name in MONEY}
        return ConversionEvent(**shared, **money)
    return ClickEvent(**shared) if report.type == CLICK else ImpressionEvent(**shared)
