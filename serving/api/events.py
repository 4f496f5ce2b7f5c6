"""Events: answered outside of the framework, like recommendations, for the speed of single events.

The route is declared in `routes.py` for the documentation; this middleware answers it before the
router is reached, with the same checks and the same errors.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from types import SimpleNamespace

import orjson
from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api import errors
from serving.api.recommend import body_of, parsed
from serving.api.schemas import EventsRequest, EventsResponse

PATH = "/v1/events"

_ROUTE = SimpleNamespace(path=PATH)

logger = logging.getLogger(__name__)

Take = Callable[[Sequence[dict[str, object]]], Awaitable[EventsResponse]]


class EventsMiddleware:
    """Answers `POST /v1/events` and passes everything else on."""

    def __init__(self, app: ASGIApp, take: Callable[[], Take]) -> None:
        """Answer with what `take` gives once the service is open; `app` answers the rest."""
        self._app = app
        self._take = take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        try:
            request = parsed(EventsRequest, await body_of(receive))
            answer = await self._take()(request.events)
        except Exception as error:  # every error is a response, like those of the router
            response = await errors.respond(Request(scope, receive), error)
            if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
                logger.exception("POST %s failed", PATH)
            await response(scope, receive, send)
            return
        body = orjson.dumps(answer.model_dump())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": body})
