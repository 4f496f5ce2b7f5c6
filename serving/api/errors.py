"""Errors: what went wrong, as an HTTP status and an RFC 9457 body. No stack trace leaves."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import redis
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from serving.api.schemas import Problem
from serving.cascade.admission import OverloadedError

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


TABLE: Mapping[type[Exception], _Rule] = {
    NotReadyError: _Rule(HTTPStatus.SERVICE_UNAVAILABLE, None),
    OverloadedError: _Rule(HTTPStatus.SERVICE_UNAVAILABLE, None),
    redis.RedisError: _Rule(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the store is away, nothing was acknowledged; try again after the time in Retry-After",
    ),
    Exception: _Rule(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "the server made a mistake, which is in its log",
    ),
}
"""Exceptions of ours and their status. Those of the framework carry their own."""


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem body."""
    for kind in TABLE:
        app.add_exception_handler(kind, _from_table)
    app.add_exception_handler(HTTPException, _from_framework)
    app.add_exception_handler(RequestValidationError, _from_validation)


def problem(
    status: HTTPStatus,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem response."""
    body = Problem(title=status.phrase, status=status, detail=detail, errors=errors or [])
    sent = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(body.model_dump_json(), status, sent, MEDIA_TYPE)


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
    if isinstance(error, OverloadedError):
        # Not logged: there are many of them, when there is least time for it; they are counted.
        return problem(rule.status, str(error), headers={"Retry-After": str(error.retry_after_s)})
    if rule.status == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("%s %s: %s", request.method, request.url.path, error)
    return problem(rule.status, rule.detail or str(error))


async def _from_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = error.detail
    if status == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; the routes are listed at /docs"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not take {request.method}"
    return problem(status, detail, headers=error.headers)


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
