"""Observation: gives every request an id, then counts, times, logs and traces it."""

import logging
import time
from random import Random

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abtest.events import new_event_id
from serving.telemetry.logs import FIELDS, REQUEST_ID
from serving.telemetry.metrics import Metrics
from serving.telemetry.traces import Tracer

STATE_REQUEST_ID = "request_id"
"""Name in the ASGI scope's `state` of the id that logs and the response's header carry."""
STATE_STEPS_US = "steps_us"
"""Name in `state` under which a route may leave what its steps took, for the trace."""
HEADER = b"x-request-id"
UNMATCHED = "unmatched"

logger = logging.getLogger("serving.access")


class ObservationMiddleware:
    """Outermost: what it does not see did not happen."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        access_log_share: float,
        tracer: Tracer | None,
        rng: Random,
    ) -> None:
        """Wrap `app`.

        Args:
            app: what is observed.
            metrics: to count in.
            access_log_share: share of the requests that are logged, in [0, 1].
            tracer: None for no traces.
            rng: draws the logged share.
        """
        self._app = app
        self._metrics = metrics
        self._access_log_share = access_log_share
        self._tracer = tracer
        self._rng = rng

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and note how that went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_event_id()
        scope.setdefault("state", {})[STATE_REQUEST_ID] = request_id
        status = 500
        started_ns = time.perf_counter_ns()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (HEADER, request_id.encode())
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        token = REQUEST_ID.set(request_id)
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._note(scope, status, time.perf_counter_ns() - started_ns)
            REQUEST_ID.reset(token)

    def _note(self, scope: Scope, status: int, duration_ns: int) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if route != UNMATCHED else "any"
        self._metrics.observe_request(route, method, status, duration_ns / 1e9)
        if self._access_log_share and self._rng.random() < self._access_log_share:
            self._log(scope, status, duration_ns)
        if self._tracer is not None:
            ended_ns = time.time_ns()
            self._tracer.record(
                f"{method} {route}",
                scope["headers"],
                ended_ns - duration_ns,
                ended_ns,
                {
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": status,
                    "request_id": scope["state"][STATE_REQUEST_ID],
                },
                scope["state"].get(STATE_STEPS_US, {}),
            )

    def _log(self, scope: Scope, status: int, duration_ns: int) -> None:
        caller = getattr(scope["state"].get("caller"), "name", None)
        about = {"caller": caller, "status": status, "duration_us": duration_ns // 1000}
        # The path as it was sent, percent-encoded: no line break of a caller's gets into the log.
        path = scope.get("raw_path", b"").decode("latin-1")
        logger.info("%s %s", scope["method"], path, extra={FIELDS: about})
