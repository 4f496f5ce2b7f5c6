"""Recommend: the one route that is answered outside of the framework, for its speed.

Routing, dependencies and models of the framework cost as much as a small cascade. The route is
declared in `routes.py` for the documentation; this middleware answers it before the router is
reached, with the same checks and the same errors.
"""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from json import JSONDecodeError
from types import SimpleNamespace
from typing import TypeVar

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api import errors
from serving.api.auth import require
from serving.api.keys import EXPLAIN
from serving.api.schemas import RecommendRequest
from serving.cascade.cascade import Answer
from serving.cascade.deadline import Deadline
from serving.telemetry.observation import STATE_STEPS_US

PATH = "/v1/recommend"
DEADLINE_HEADER = b"x-deadline-ms"
MAX_DEADLINE_MS = 60_000

_ROUTE = SimpleNamespace(path=PATH)

logger = logging.getLogger(__name__)

Body = TypeVar("Body", bound=BaseModel)

Recommend = Callable[[RecommendRequest, Deadline], Awaitable[Answer]]


class RecommendMiddleware:
    """Answers `POST /v1/recommend` and passes everything else on."""

    def __init__(
        self, app: ASGIApp, recommend: Callable[[], Recommend], deadline_ms: float
    ) -> None:
        """Answer with what `recommend` gives once the service is open.

        Args:
            app: answers all other requests.
            recommend: the cascade's answer to a request.
            deadline_ms: time for a request that does not say how much it has.
        """
        self._app = app
        self._recommend = recommend
        self._deadline_ms = deadline_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        try:
            deadline = Deadline.after(deadline_ms_of(scope) or self._deadline_ms)
            request = parse(await body_of(receive))
            if request.explain:
                require(scope, EXPLAIN)
            answer = await self._recommend()(request, deadline)
        except Exception as error:  # every error is a response, like those of the router
            response = await errors.respond(Request(scope, receive), error)
            if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
                logger.exception("POST %s failed", PATH)
            await response(scope, receive, send)
            return
        scope["state"][STATE_STEPS_US] = answer.latency_us
        body = orjson.dumps(answer.body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"server-timing", answer.server_timing()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def deadline_ms_of(scope: Scope) -> float | None:
    """How much time a request has, by its header `X-Deadline-Ms`; None where it does not say.

    Raises:
        RequestValidationError: the header is not a number of milliseconds.
    """
    for name, value in scope["headers"]:
        if name == DEADLINE_HEADER:
            if value.isdigit() and 1 <= int(value) <= MAX_DEADLINE_MS:
                return float(value)
            raise RequestValidationError(
                [
                    {
                        "loc": ("header", "X-Deadline-Ms"),
                        "msg": f"must be a whole number of milliseconds, 1 to {MAX_DEADLINE_MS}",
                        "type": "deadline",
                        "input": value.decode("latin-1"),
                    }
                ]
            )
    return None


def parse(body: bytes) -> RecommendRequest:
    """The request in a body.

    Raises:
        RequestValidationError: it is not JSON, or breaks a rule.
    """
    return parsed(RecommendRequest, body)


def parsed(model: type[Body], body: bytes) -> Body:
    """What a body holds, as the model of its route.

    Raises:
        RequestValidationError: it is not JSON, or breaks a rule.
    """
    try:
        return model.model_validate(orjson.loads(body))
    except JSONDecodeError as error:
        fault = {
            "loc": ("body", error.pos),
            "msg": "JSON decode error",
            "type": "json_invalid",
            "input": {},
            "ctx": {"error": error.msg},
        }
        raise RequestValidationError([fault]) from error
    except ValidationError as error:
        faults = [
            {**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)
        ]
        raise RequestValidationError(faults) from error


async def body_of(receive: Receive) -> bytes:
    """The whole body of a request."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body
