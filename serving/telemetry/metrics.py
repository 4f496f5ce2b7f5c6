"""Metrics of one server, in the Prometheus text format."""

import time
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters and histograms in a registry of their own."""

    def __init__(self) -> None:
        """All of them at zero."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cascade_http_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "cascade_http_request_seconds",
            "Time to answer.",
            ("route", "method"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            "cascade_step_seconds",
            "Time of each step of an answer.",
            ("bundle", "step"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.degraded = Counter(
            "cascade_degraded_answers",
            "Answers that are less than they should be.",
            ("bundle", "reason"),
            registry=self.registry,
        )
        self.events = Counter(
            "cascade_feedback_events",
            "Feedback events: accepted, duplicate or rejected.",
            ("outcome",),
            registry=self.registry,
        )
        self.archived = Counter(
            "cascade_archived_events",
            "Events moved from the stream into Parquet files.",
            registry=self.registry,
        )
        self.archive_failures = Counter(
            "cascade_archive_failures",
            "Runs of the archiver that failed; they are tried again.",
            registry=self.registry,
        )
        self.store_restarts = Counter(
            "cascade_store_restarts",
            "Times the embedded Valkey had died and was started again.",
            registry=self.registry,
        )

    def observe_answer(
        self, bundle: str, latency_us: Mapping[str, int], degraded: Sequence[str]
    ) -> None:
        """Count one answer of a bundle."""
        for step, duration_us in latency_us.items():
            self.step_seconds.labels(bundle, step).observe(duration_us / 1_000_000)
        for reason in degraded:
            self.degraded.labels(bundle, reason).inc()

    def observe_feedback(self, accepted: int, duplicates: int, rejected: int) -> None:
        """Count one batch of feedback."""
        self.events.labels("accepted").inc(accepted)
        self.events.labels("duplicate").inc(duplicates)
        self.events.labels("rejected").inc(rejected)

    def render(self) -> bytes:
        """The text a Prometheus server scrapes."""
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Counts and times every request by its route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap `app`."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if route != "unmatched" else "any"
            self._metrics.requests.labels(route, method, str(status)).inc()
            seconds = time.perf_counter() - started
            self._metrics.request_seconds.labels(route, method).observe(seconds)
