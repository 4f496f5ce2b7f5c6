"""Logs: one JSON object a line for machines, plain lines for a terminal.

Every line that is written while a request is answered carries the request's id, which the response
has in `X-Request-Id`.
"""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being answered; empty outside of one."""

FIELDS = "fields"
"""`logger.info("…", extra={FIELDS: {...}})` adds fields to a line."""

LogFormat = Literal["auto", "json", "text"]


class JsonFormatter(logging.Formatter):
    """RFC 3339 time, level, logger, message, request id, fields of the caller, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "ts": _moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id(record):
            line["request_id"] = request_id
        line |= _fields(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, then what else is known as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        clock = _moment(record).astimezone().strftime("%H:%M:%S")
        text = f"{clock} {record.levelname} {record.name}: {record.getMessage()}"
        request_id = _request_id(record)
        known = ({"request_id": request_id} if request_id else {}) | _fields(record)
        text += "".join(f" {name}={value}" for name, value in known.items())
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(form: LogFormat, stream: TextIO | None = None) -> None:
    """Write all logs of the process to a stream, from INFO on, in the place of another one.

    Args:
        form: `auto` is text in a terminal and JSON elsewhere.
        stream: standard error if None.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    text = handler.stream.isatty() if form == "auto" else form == "text"
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if type(h) is not logging.StreamHandler]
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # It tells at every start which instruction set it found.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _request_id(record: logging.LogRecord) -> str:
    # Who works for several requests at once names the one it means.
    return str(getattr(record, "request_id", "") or REQUEST_ID.get())


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, FIELDS, {})
    return fields
