"""Traces: a span a request and a step, under the caller's span, and none when nobody asks."""

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.telemetry.traces import Tracer, TracesError, open_tracer

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


def spans(share: float, traceparent: str | None, status: int = 200) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracer = Tracer(share, exporter)
    headers = [] if traceparent is None else [(b"traceparent", traceparent.encode())]
    about: dict[str, str | int] = {"http.response.status_code": status, "request_id": "r1"}
    steps_us = {"split": 10, "rank": 500, "total": 510}
    tracer.record("POST /v1/recommend", headers, 1_000_000, 2_000_000, about, steps_us)
    tracer.close()
    return exporter.get_finished_spans()


def test_steps_lie_inside_the_request_in_their_order() -> None:
    split, rank, request = spans(1.0, None)
    assert (split.name, rank.name, request.name) == ("split", "rank", "POST /v1/recommend")
    assert (request.start_time, request.end_time) == (1_000_000, 2_000_000)
    assert (split.start_time, split.end_time) == (1_490_000, 1_500_000)
    assert (rank.start_time, rank.end_time) == (1_500_000, 2_000_000)
    assert request.context is not None
    for step in (split, rank):
        assert step.parent is not None
        assert step.parent.span_id == request.context.span_id
    assert request.attributes is not None
    assert request.attributes["request_id"] == "r1"
    assert request.resource.attributes["service.name"] == "cascade"
    assert request.status.is_unset


def test_a_caller_s_decision_is_followed() -> None:
    *_, request = spans(0.0, f"00-{TRACE}-{CALLER}-01")
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == CALLER
    assert not spans(1.0, f"00-{TRACE}-{CALLER}-00")


def test_of_those_without_a_decision_a_share_is_traced() -> None:
    assert not spans(0.0, None)
    assert len(spans(1.0, "00-nonsense")) == 3


def test_a_failure_is_marked() -> None:
    assert not spans(1.0, None, status=503)[-1].status.is_ok
    assert spans(1.0, None, status=404)[-1].status.is_unset


def test_nothing_is_made_where_nothing_is_traced() -> None:
    assert open_tracer(0.0) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, scope: Mapping[str, object] | None = None, *rest: Any) -> Any:  # noqa: ANN401
        if name.startswith("opentelemetry.exporter"):
            raise ImportError(f"No module named {name!r}")
        return real(name, scope, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TracesError, match=r"CASCADE_TRACE_SHARE = 0\.5 needs OpenTel.* run `pip i"):
        open_tracer(0.5)
