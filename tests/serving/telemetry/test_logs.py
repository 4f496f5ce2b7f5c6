"""Logs: one object a line, the request's id in it, and nothing that breaks a line."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serving.telemetry.logs import FIELDS, REQUEST_ID, LogFormat, configure


@pytest.fixture
def _own_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(form: LogFormat, stream: io.StringIO) -> list[str]:
    configure(form, stream=stream)
    logger = logging.getLogger("a.b")
    logger.debug("not shown")
    logger.info("said %d", 1)
    token = REQUEST_ID.set("r1")
    logger.warning("two\nlines", extra={FIELDS: {"status": 200, "caller": None}})
    logger.warning("another", extra={"request_id": "r2"})
    REQUEST_ID.reset(token)
    try:
        raise KeyError("why")
    except KeyError:
        logger.exception("failed")
    return stream.getvalue().splitlines()


@pytest.mark.usefixtures("_own_root")
def test_json_lines() -> None:
    found: list[dict[str, Any]] = [json.loads(line) for line in lines("auto", io.StringIO())]
    assert [line.pop("ts")[-6:] for line in found] == ["+00:00"] * 4
    assert found[0] == {"level": "info", "logger": "a.b", "message": "said 1"}
    assert found[1] == {
        "level": "warning", "logger": "a.b", "message": "two\nlines", "request_id": "r1",
        "status": 200, "caller": None,
    }  # fmt: skip
    assert found[2]["request_id"] == "r2"
    assert "request_id" not in found[3]
    assert found[3]["traceback"].endswith("KeyError: 'why'")


@pytest.mark.usefixtures("_own_root")
def test_text_in_a_terminal() -> None:
    found = lines("auto", Terminal())
    assert found[0].endswith(" INFO a.b: said 1")
    assert "lines request_id=r1 status=200 caller=None" in found
    assert found[-1] == "KeyError: 'why'"


@pytest.mark.usefixtures("_own_root")
def test_what_json_does_not_know_is_written_as_it_looks() -> None:
    stream = io.StringIO()
    configure("json", stream=stream)
    logging.getLogger("a").info("x", extra={FIELDS: {"where": {1, 2}, 3: complex(1, 2)}})
    line = json.loads(stream.getvalue())
    assert (line["where"], line["3"]) == ("{1, 2}", "(1+2j)")
