"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from serving.api import errors
from serving.api.body import BodyLimitMiddleware
from serving.api.recommend import RecommendMiddleware
from serving.api.routes import router
from serving.service import open_service
from serving.settings import Settings
from serving.telemetry.metrics import Metrics, MetricsMiddleware


def create_app(settings: Settings) -> FastAPI:
    """An application that opens its service when it starts."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, metrics) as service:
            app.state.service = service
            yield

    app = FastAPI(
        title="Cascade recommender", version=version("cascade-recommender"), lifespan=lifespan
    )
    app.state.metrics = metrics
    app.include_router(router)
    errors.install(app)
    app.add_middleware(
        RecommendMiddleware,
        recommend=lambda: app.state.service.cascade.recommend,
        deadline_ms=settings.deadline_ms,
    )
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    return app
