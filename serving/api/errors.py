"""Errors: what went wrong, as an HTTP status and an RFC 9457 body. No stack trace leaves."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

import orjson
import redis
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abtest.log.journal import JournalError
from abtest.split.experiment import ExperimentError
from serving.api.auth import ForbiddenError, UnauthorizedError
from serving.api.loopback import MisdirectedError
from serving.api.rate_limit import RateLimitError
from serving.api.schemas import Problem
from serving.assortment import UnknownItemError
from serving.bundles.catalog import UnknownBundleError
from serving.bundles.shadow import NoTrialError
from serving.cascade.admission import OverloadedError
from serving.erasure import NoErasureError
from serving.experiments.register import UnknownExperimentError
from serving.experiments.store import OutdatedError, UnknownVersionError
from serving.reports.missing import NoReportError
from training.bundle import BundleError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
_SHOWN_FAULTS = 20

logger = logging.getLogger(__name__)


class NotReadyError(RuntimeError):
    """The server cannot answer yet, or not now."""


class _Rule(NamedTuple):
    status: HTTPStatus
    detail: str | None
    """Said instead of the exception's own words, which may name internals."""
    headers: Mapping[str, str] = MappingProxyType({})


TABLE: Mapping[type[Exception], _Rule] = {
    NotReadyError: _Rule(HTTPStatus.SERVICE_UNAVAILABLE, None),
    OverloadedError: _Rule(HTTPStatus.SERVICE_UNAVAILABLE, None),
    UnauthorizedError: _Rule(HTTPStatus.UNAUTHORIZED, None, {"WWW-Authenticate": "Bearer"}),
    ForbiddenError: _Rule(HTTPStatus.FORBIDDEN, None),
    MisdirectedError: _Rule(HTTPStatus.MISDIRECTED_REQUEST, None),
    RateLimitError: _Rule(HTTPStatus.TOO_MANY_REQUESTS, None),
    UnknownBundleError: _Rule(HTTPStatus.NOT_FOUND, None),
    NoErasureError: _Rule(HTTPStatus.NOT_FOUND, None),
    NoReportError: _Rule(HTTPStatus.NOT_FOUND, None),
    NoTrialError: _Rule(HTTPStatus.NOT_FOUND, None),
    UnknownItemError: _Rule(HTTPStatus.NOT_FOUND, None),
    UnknownExperimentError: _Rule(HTTPStatus.NOT_FOUND, None),
    UnknownVersionError: _Rule(HTTPStatus.NOT_FOUND, None),
    OutdatedError: _Rule(HTTPStatus.CONFLICT, None),
    ExperimentError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY, None),
    BundleError: _Rule(HTTPStatus.UNPROCESSABLE_ENTITY, None),
    JournalError: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the log cannot be written, nothing was acknowledged; try again after the time in "
        "Retry-After",
    ),
    redis.RedisError: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the store is away, nothing was acknowledged; try again after the time in Retry-After",
    ),
    Exception: _Rule(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "the server made a mistake, which is in its log",
    ),
}
"""Exceptions of ours and their status. Those of the framework carry their own. The `retry_after_s`
of an exception that has one goes into Retry-After, its `members` into the body."""


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem body, those of the middleware so far included."""
    for kind in TABLE:
        if kind is not Exception:  # the framework would answer it outside of all middleware
            app.add_exception_handler(kind, _from_table)
    app.add_exception_handler(HTTPException, _from_framework)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_middleware(ErrorsMiddleware)


class ErrorsMiddleware:
    """Answers what neither a route nor the framework has answered."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens.

        Raises:
            Exception: after the response has begun, so that the connection is cut.
        """
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            response = await respond(Request(scope, receive), error)
            if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
                logger.exception("%s %s failed", scope["method"], scope["path"])
            await response(scope, receive, send)


def problem(
    status: HTTPStatus,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> Response:
    """A problem response; `members` are what its body has beside the usual (RFC 9457, 3.2)."""
    body = Problem(title=status.phrase, status=status, detail=detail, errors=errors or [])
    sent = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(
        orjson.dumps({**body.model_dump(), **(members or {})}), status, sent, MEDIA_TYPE
    )


async def respond(request: Request, error: Exception) -> Response:
    """The response to an exception that was raised outside of the framework's routes."""
    if isinstance(error, HTTPException):
        return await _from_framework(request, error)
    if isinstance(error, RequestValidationError):
        return await _from_validation(request, error)
    return await _from_table(request, error)


async def _from_table(request: Request, error: Exception) -> Response:
    kind = next(kind for kind in type(error).__mro__ if kind in TABLE)
    rule = TABLE[kind]
    headers = dict(rule.headers)
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        # Not logged: there are many of them, when there is least time for it; they are counted.
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    elif rule.status == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("%s %s: %s", request.method, request.url.path, error)
    detail = rule.detail or str(error)
    if kind is Exception and (request_id := getattr(request.state, "request_id", None)):
        detail += f" under request id {request_id}"
    members = getattr(error, "members", None)
    return problem(rule.status, detail, headers=headers, members=members)


async def _from_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail, headers = error.detail, dict(error.headers or {})
    if status == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; the routes are listed at /docs"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not take {request.method}"
        headers["Allow"] = ", ".join(_methods(request))
    return problem(status, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods of all routes at a path; the framework names those of the first."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": method})[0] == Match.FULL
            for route in request.app.routes
        )
    ]


async def _from_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        {
            "field": ".".join(str(part) for part in fault["loc"]),
            "rule": str(fault.get("ctx", {}).get("error", fault["msg"])),
            "value": repr(fault.get("input"))[:100],
        }
        for fault in error.errors()
    ]
    first = faults[0]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    detail = f"{first['field']}: {first['rule']}{more}"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults[:_SHOWN_FAULTS])
