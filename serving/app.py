"""The ASGI application."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from random import Random

from fastapi import FastAPI

from serving.api import bundles, docs, errors, experiments, items, recent, reports, units
from serving.api.auth import Guard, GuardMiddleware
from serving.api.body import BodyLimitMiddleware
from serving.api.dashboard import dashboard
from serving.api.events import EventsMiddleware
from serving.api.headers import HeadersMiddleware
from serving.api.key_ring import KeyRing
from serving.api.keys import KEYS_FILE, parse_variable
from serving.api.loopback import check_exposure
from serving.api.rate_limit import RateLimiter
from serving.api.recommend import RecommendMiddleware
from serving.api.routes import router
from serving.service import open_service
from serving.settings import Settings
from serving.telemetry.metrics import Metrics
from serving.telemetry.observation import ObservationMiddleware
from serving.telemetry.traces import open_tracer


def create_app(settings: Settings) -> FastAPI:
    """An application that opens its service when it starts.

    Raises:
        KeysError: the API keys are wrong.
        ExposedError: without API keys it would be reachable from other machines.
        TracesError: traces are asked for and cannot be made.
    """
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    metrics = Metrics(Path(shared) if shared else None)
    tracer = open_tracer(settings.trace_share)
    guard = _guard(settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, metrics) as service:
            app.state.service = service
            yield
        if tracer is not None:
            tracer.close()

    app = FastAPI(
        title="Cascade recommender",
        version=version("cascade-recommender"),
        lifespan=lifespan,
        openapi_url=None,
    )
    app.state.metrics = metrics
    app.state.guard = guard
    app.state.settings = settings
    app.include_router(router)
    app.include_router(bundles.router)
    app.include_router(experiments.router)
    app.include_router(items.router)
    app.include_router(recent.router)
    app.include_router(reports.router)
    app.include_router(units.router)
    app.include_router(docs.router)
    app.include_router(dashboard())
    # Each of these is around those above it.
    app.add_middleware(
        RecommendMiddleware,
        recommend=lambda: app.state.service.cascade.recommend,
        deadline_ms=settings.deadline_ms,
    )
    app.add_middleware(EventsMiddleware, take=lambda: app.state.service.feedback.take)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(GuardMiddleware, guard=guard, refused=metrics.refused)
    errors.install(app)
    app.add_middleware(HeadersMiddleware)
    app.add_middleware(
        ObservationMiddleware,
        metrics=metrics,
        access_log_share=settings.access_log_share,
        tracer=tracer,
        rng=Random(),
    )
    return app


def _guard(settings: Settings, metrics: Metrics) -> Guard:
    ring = KeyRing(
        settings.data_dir / KEYS_FILE,
        parse_variable(settings.api_keys or ""),
        time.monotonic,
        metrics.bad_files.labels("keys").inc,
    )
    check_exposure(settings.host, ring)
    return Guard(
        ring,
        RateLimiter(time.monotonic),
        rate_per_s=settings.rate_per_s,
        address_rate_per_s=settings.address_rate_per_s,
    )
