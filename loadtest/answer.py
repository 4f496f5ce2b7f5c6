"""Answer: what a response is worth, judged by status, headers and body."""

import math
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import orjson


class Route(StrEnum):
    """What is asked of the server."""

    RECOMMEND = "recommend"
    EVENTS = "events"
    INTERACTIONS = "interactions"


class Outcome(StrEnum):
    """What came of a request."""

    OK = "ok"
    DEGRADED = "degraded"
    """A valid answer that says it is less than it should be."""
    SHED = "shed"
    """503 with Retry-After: the server refused in order to answer others in time."""
    FAILED = "failed"
    """Anything else: no answer, another status, a body that is wrong."""


class Verdict(NamedTuple):
    """An outcome and its reasons: what was degraded, or what failed."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()


_STATUS = {
    Route.RECOMMEND: HTTPStatus.OK,
    Route.EVENTS: HTTPStatus.ACCEPTED,
    Route.INTERACTIONS: HTTPStatus.OK,
}


class Response(Protocol):
    """What is looked at of an HTTP response."""

    @property
    def status_code(self) -> int:
        """0 where there was no answer."""

    @property
    def headers(self) -> Any:  # noqa: ANN401
        """By name in lower case; None where there was no answer."""

    @property
    def content(self) -> bytes | None:
        """The body."""


def judge(route: Route, size: int, response: Response) -> tuple[Verdict, Mapping[str, Any]]:
    """Judge a response; the body comes back parsed where it is a valid one.

    Args:
        route: what was asked.
        size: items asked for, or events or interactions sent.
        response: what came.
    """
    status = response.status_code
    if status == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" in response.headers:
        return Verdict(Outcome.SHED), {}
    if status != _STATUS[route]:
        return _failed(f"{route}: status {status}" if status else f"{route}: no answer"), {}
    try:
        body = orjson.loads(response.content or b"")
    except orjson.JSONDecodeError:
        return _failed(f"{route}: the body is no JSON"), {}
    try:
        fault = _FAULTS[route](body, size)
    except (KeyError, TypeError, AttributeError) as error:
        fault = f"the body lacks a field or has one of a wrong type ({error!r})"
    if fault:
        return _failed(f"{route}: {fault}"), {}
    reasons = tuple(body.get("degraded", ()))
    return Verdict(Outcome.DEGRADED if reasons else Outcome.OK, reasons), body


def _failed(why: str) -> Verdict:
    return Verdict(Outcome.FAILED, (why,))


def _recommend_fault(body: Mapping[str, Any], num: int) -> str | None:
    items, degraded = body["items"], body["degraded"]
    if not body["request_id"] or not body["bundle"]:
        return "the answer names no request or no bundle"
    if not isinstance(degraded, list) or not all(isinstance(reason, str) for reason in degraded):
        return "degraded is no list of reasons"
    if not 0 < len(items) <= num:
        return f"{len(items)} items for {num} asked"
    if [item["position"] for item in items] != list(range(len(items))):
        return "positions do not count from 0"
    if len({item["item_id"] for item in items}) != len(items):
        return "an item stands twice in the answer"
    if not all(math.isfinite(item["score"]) for item in items):
        return "a score is not finite"
    return None


def _events_fault(body: Mapping[str, Any], sent: int) -> str | None:
    if body["rejected"]:
        return f"an event was rejected: {body['rejected'][0]['reason']}"
    if body["accepted"] + body["duplicates"] != sent:
        return "accepted and duplicates do not add up to what was sent"
    return None


def _interactions_fault(body: Mapping[str, Any], sent: int) -> str | None:
    return None if body["appended"] == sent else "not every interaction was appended"


_FAULTS = {
    Route.RECOMMEND: _recommend_fault,
    Route.EVENTS: _events_fault,
    Route.INTERACTIONS: _interactions_fault,
}
