"""Outcome: what the background process tells its parent of a step, a JSON line each."""

from typing import NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError


class OutcomeError(ValueError):
    """A line that tells no outcome."""


class Outcome(NamedTuple):
    """One run of a step."""

    step: str
    seconds: float
    counts: dict[str, int]
    """What it did; empty where it failed."""
    error: str | None = None
    """Why it failed; None where it did not."""

    def to_line(self) -> bytes:
        """As one line of JSON."""
        return orjson.dumps(self._asdict(), option=orjson.OPT_APPEND_NEWLINE)


_ADAPTER = TypeAdapter(Outcome)


def parse_outcome(line: bytes) -> Outcome:
    """The outcome that `Outcome.to_line` wrote.

    Raises:
        OutcomeError: the line is something else.
    """
    try:
        return _ADAPTER.validate_python(Outcome(**orjson.loads(line)))
    except (orjson.JSONDecodeError, TypeError, ValidationError) as error:
        raise OutcomeError(
            f"line {line[:100]!r} of the background process is no outcome of a step; "
            "nothing but outcomes may be written to its standard output"
        ) from error
