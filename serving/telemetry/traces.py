"""Traces: a span for a request and one for each of its steps, made from timings after the fact.

Optional: `pip install 'cascade-recommender[telemetry]'`. Spans go to where the variables of
OpenTelemetry say (`OTEL_EXPORTER_OTLP_ENDPOINT`), in the background. A caller that sends a W3C
`traceparent` decides itself whether its request is traced; of the others a share is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "cascade"
EXPORT_TIMEOUT_S = 2.0
"""A collector that is away is tried no longer, so that the server ends in time."""
_CARRIED = (b"traceparent", b"tracestate")


class TracesError(ValueError):
    """Traces are asked for and cannot be made; the message names the remedy."""


class Tracer:
    """Makes the spans of answered requests."""

    def __init__(self, share: float, exporter: SpanExporter) -> None:
        """Trace a share of the requests, in [0, 1], that come without a decision."""
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": SERVICE_NAME})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE_NAME)
        self._extract = TraceContextTextMapPropagator().extract
        self._within = set_span_in_context
        self._server = SpanKind.SERVER
        self._failed = StatusCode.ERROR

    def record(
        self,
        name: str,
        headers: list[tuple[bytes, bytes]],
        started_ns: int,
        ended_ns: int,
        attributes: Mapping[str, str | int],
        steps_us: Mapping[str, int],
    ) -> None:
        """Make the spans of one request.

        Args:
            name: of the route, such as `POST /v1/recommend`.
            headers: of the request, which may name the caller's span.
            started_ns: Unix time.
            ended_ns: Unix time.
            attributes: by OpenTelemetry's names; a `http.response.status_code` over 499 is a
                failure.
            steps_us: time of each step in the order they were made; they end with the request, and
                `total` is none of them.
        """
        carrier = {n.decode(): v.decode("latin-1") for n, v in headers if n in _CARRIED}
        span = self._tracer.start_span(
            name,
            context=self._extract(carrier),
            kind=self._server,
            attributes=dict(attributes),
            start_time=started_ns,
        )
        if span.is_recording():
            if int(attributes.get("http.response.status_code", 0)) >= 500:
                span.set_status(self._failed)
            within = self._within(span)
            laps_ns = [(step, us * 1000) for step, us in steps_us.items() if step != "total"]
            # Waiting and reading come first, so the steps are laid against the end.
            at_ns = max(started_ns, ended_ns - sum(ns for _, ns in laps_ns))
            for step, lap_ns in laps_ns:
                child = self._tracer.start_span(step, context=within, start_time=at_ns)
                at_ns = min(at_ns + lap_ns, ended_ns)
                child.end(at_ns)
        span.end(ended_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def open_tracer(share: float) -> Tracer | None:
    """A tracer that exports over OTLP; None where nothing is to be traced.

    Raises:
        TracesError: the packages of the extra `telemetry` are not installed.
    """
    if share == 0:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise TracesError(
            f"CASCADE_TRACE_SHARE = {share:g} needs OpenTelemetry ({error}); run "
            "`pip install 'cascade-recommender[telemetry]'`, or set it to 0"
        ) from error
    return Tracer(share, OTLPSpanExporter(timeout=EXPORT_TIMEOUT_S))
