"""Record: what the log writes about one event, the same to the journal and to the store."""

import struct
from enum import IntEnum
from typing import NamedTuple

import orjson
from pydantic import BaseModel

from abtest.events import ConversionEvent, FeedbackEvent, RankingEvent
from abtest.log.attribution import REPORT, Report

_HEADER = struct.Struct("<BHI")


class Kind(IntEnum):
    """What the store does with a record."""

    EVENT = 0
    """Append it to the stream, unless its key is taken."""
    REPORT = 1
    """Keep it until its answer is known, unless its key is taken."""


class Record(NamedTuple):
    """One entry of the journal."""

    kind: Kind
    key: bytes
    """Taken in the store exactly when the event is in the stream."""
    value: bytes
    """Kept under the key; of a report the id it is kept under."""
    content: bytes
    """JSON of the event or the report."""

    def pack(self) -> bytes:
        """As bytes of the journal."""
        header = _HEADER.pack(self.kind, len(self.key), len(self.value))
        return b"".join((header, self.key, self.value, self.content))


def unpack(packed: bytes) -> Record:
    """The record that `Record.pack` packed."""
    kind, key_size, value_size = _HEADER.unpack_from(packed)
    key_end = _HEADER.size + key_size
    value_end = key_end + value_size
    return Record(
        Kind(kind),
        packed[_HEADER.size : key_end],
        packed[key_end:value_end],
        packed[value_end:],
    )


def answer_key(request_id: str) -> bytes:
    """Key of an answer, which holds the `Answer` as JSON."""
    return f"answer:{request_id}".encode()


def event_key(event_id: str) -> bytes:
    """Key of an event of feedback, which holds the revenue of a conversion and else nothing."""
    return b"event:" + event_id.encode()


def ranking_record(event: RankingEvent) -> Record:
    """The record of an answer."""
    fields = event.__dict__
    answer = [fields["unit"], fields["experiments"], fields["item_ids"]]
    return Record(
        Kind.EVENT,
        answer_key(event.request_id),
        orjson.dumps(answer, default=_fields),
        orjson.dumps(fields, default=_fields),
    )


def feedback_record(event: FeedbackEvent) -> Record:
    """The record of feedback about a known answer."""
    content = orjson.dumps(event.__dict__, default=_fields)
    sold = b"%d" % event.revenue_micros if isinstance(event, ConversionEvent) else b""
    return Record(Kind.EVENT, event_key(event.event_id), sold, content)


def report_record(report: Report) -> Record:
    """The record of feedback whose answer is not known yet."""
    event_id = report.event_id.encode()
    return Record(Kind.REPORT, event_key(report.event_id), event_id, REPORT.dump_json(report))


def _fields(model: object) -> dict[str, object]:
    # Twice as fast as the model's own way to JSON, and equal to it: models hold plain fields only.
    assert isinstance(model, BaseModel)
    return model.__dict__
