"""Observation: the id of a request in its header, its log lines, its error and its trace."""

import asyncio
import logging
from random import Random
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving.api import errors
from serving.telemetry.logs import REQUEST_ID
from serving.telemetry.metrics import Metrics
from serving.telemetry.observation import STATE_STEPS_US, ObservationMiddleware
from serving.telemetry.traces import Tracer
from tests.serving.telemetry.test_metrics import samples


def application(metrics: Metrics, share: float = 0.0, tracer: Tracer | None = None) -> FastAPI:
    app = FastAPI()

    @app.get("/things/{name}")
    async def thing(name: str, request: Request) -> str:
        setattr(request.state, STATE_STEPS_US, {"find": 5})
        return f"{name} {REQUEST_ID.get()}"

    @app.get("/mistake")
    async def mistake() -> None:
        raise KeyError("secret")

    errors.install(app)
    app.add_middleware(
        ObservationMiddleware,
        metrics=metrics,
        access_log_share=share,
        tracer=tracer,
        rng=Random(0),
    )
    return app


def ask(app: FastAPI, *paths: str) -> list[httpx.Response]:
    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(ask_all())


def test_the_id_is_in_the_header_and_in_what_runs_meanwhile() -> None:
    (response,) = ask(application(Metrics()), "/things/a")
    assert response.json() == f"a {response.headers['x-request-id']}"
    assert REQUEST_ID.get() == ""


def test_a_mistake_of_ours_is_found_in_the_log_by_its_id(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, logging.LogRecord]] = []

    def note(record: logging.LogRecord) -> bool:
        seen.append((REQUEST_ID.get(), record))
        return True

    caplog.handler.addFilter(note)
    metrics = Metrics()
    (response,) = ask(application(metrics), "/mistake")
    request_id = response.headers["x-request-id"]
    assert response.status_code == 500
    assert response.json()["detail"] == (
        f"the server made a mistake, which is in its log under request id {request_id}"
    )
    assert "secret" not in response.text
    ((logged_id, record),) = [entry for entry in seen if entry[1].exc_info]
    assert logged_id == request_id
    assert record.getMessage() == "GET /mistake failed"
    counted = samples(metrics.render())
    assert counted["cascade_http_requests_total{method=GET,route=/mistake,status=500}"] == 1


def test_routes_are_counted_by_their_pattern_and_strangers_together() -> None:
    metrics = Metrics()
    ask(application(metrics), "/things/a", "/things/b", "/nowhere/1", "/nowhere/2")
    counted = samples(metrics.render())
    assert counted["cascade_http_requests_total{method=GET,route=/things/{name},status=200}"] == 2
    assert counted["cascade_http_requests_total{method=any,route=unmatched,status=404}"] == 2
    assert counted["cascade_http_request_seconds_count{method=any,route=unmatched}"] == 2


@pytest.mark.parametrize(("share", "lowest", "highest"), [(0.0, 0, 0), (0.5, 5, 45), (1.0, 50, 50)])
def test_a_share_is_logged(
    share: float, lowest: int, highest: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "serving.access")
    ask(application(Metrics(), share), *["/things/a%0Ab"] * 50)
    lines = [record for record in caplog.records if record.name == "serving.access"]
    assert lowest <= len(lines) <= highest
    for record in lines:
        about: Any = record
        assert record.getMessage() == "GET /things/a%0Ab"
        assert about.fields["status"] == 200
        assert about.fields["duration_us"] >= 0


def test_a_traced_request_has_its_steps() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(1.0, exporter)
    (response,) = ask(application(Metrics(), tracer=tracer), "/things/a")
    tracer.close()
    step, request = exporter.get_finished_spans()
    assert (step.name, request.name) == ("find", "GET /things/{name}")
    assert request.attributes is not None
    assert request.attributes["request_id"] == response.headers["x-request-id"]
    assert request.attributes["http.response.status_code"] == 200
