"""Request bodies: bounded in size, and strict JSON."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.errors import problem


class StrictJsonRequest(Request):
    """Takes JSON as RFC 8259 has it: no NaN, no Infinity, no lone surrogates."""

    async def json(self) -> object:
        """The parsed body."""
        return orjson.loads(await self.body())


class StrictJsonRoute(APIRoute):
    """A route whose body is a `StrictJsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictJsonRequest(request.scope, request.receive))

        return handle_strictly


class BodyLimitMiddleware:
    """Refuses bodies over a size, whether announced or sent in chunks."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap `app`."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            response = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._reason())
            await response(scope, receive, send)
            return
        seen = 0

        async def receive_bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._reason())
            return message

        await self._app(scope, receive_bounded, send)

    def _reason(self) -> str:
        return f"the body is over {self._max_bytes} bytes; send it in smaller parts"
