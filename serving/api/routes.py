"""Routes: HTTP bodies in, HTTP bodies out."""

from http import HTTPStatus
from typing import Annotated, cast

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.api import schemas
from serving.api.auth import require
from serving.api.body import StrictJsonRoute
from serving.api.errors import MEDIA_TYPE
from serving.api.keys import EXPLAIN
from serving.api.recommend import deadline_ms_of
from serving.service import Service
from serving.telemetry.metrics import Metrics
from training.features import Int64, UInt64, item_keys, to_ts_us

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}

router = APIRouter(route_class=StrictJsonRoute)


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


Opened = Annotated[Service, Depends(_service)]
UserId = Annotated[str, Path(min_length=1, max_length=128)]

_ERRORS: dict[int | str, dict[str, object]] = {413: _PROBLEM, 422: _PROBLEM, 503: _PROBLEM}


@router.post("/v1/recommend", responses=_ERRORS)
async def recommend(
    body: schemas.RecommendRequest,  # noqa: ARG001  # declared for the documentation
) -> schemas.RecommendResponse:
    """Recommend items to a user; an unknown user is answered like a newcomer."""
    raise AssertionError("answered by RecommendMiddleware, before the router")


@router.post(
    "/v1/recommend/batch", responses=_ERRORS, response_model=schemas.RecommendBatchResponse
)
async def recommend_batch(
    body: schemas.RecommendBatchRequest, request: Request, service: Opened
) -> Response:
    """Recommend to several users in one call; each is answered, or refused, on its own."""
    if any(each.explain for each in body.requests):
        require(request.scope, EXPLAIN)
    request.app.state.guard.charge(request.scope, len(body.requests) - 1)
    entries = await service.batch.answer(body.requests, deadline_ms_of(request.scope))
    return Response(orjson.dumps({"answers": entries}), media_type="application/json")


@router.post("/v1/events", status_code=HTTPStatus.ACCEPTED, responses=_ERRORS)
async def events(
    body: schemas.EventsRequest,  # noqa: ARG001  # declared for the documentation
) -> schemas.EventsResponse:
    """Report what users did with recommended items; acknowledged events are on disk."""
    raise AssertionError("answered by EventsMiddleware, before the router")


@router.put("/v1/users/{user_id}", status_code=HTTPStatus.NO_CONTENT, responses=_ERRORS)
async def put_user(user_id: UserId, body: schemas.PutUserRequest, service: Opened) -> None:
    """Replace everything known about a user."""
    keys, ts_us = _packed(body.interactions)
    await service.features.put(user_id, body.features, keys, ts_us)


@router.post("/v1/users/{user_id}/interactions", responses=_ERRORS)
async def append_interactions(
    user_id: UserId, body: schemas.InteractionsRequest, service: Opened
) -> schemas.InteractionsResponse:
    """Append to a user's history; a list with a known `interaction_id` changes nothing."""
    keys, ts_us = _packed(body.interactions)
    appended = await service.features.append(user_id, keys, ts_us, body.interaction_id)
    return schemas.InteractionsResponse(appended=appended)


@router.get("/healthz")
async def healthz() -> schemas.Health:
    """The process is up."""
    return schemas.Health(status="ok")


@router.get("/readyz", responses={503: _PROBLEM})
async def readyz(service: Opened) -> schemas.Readiness:
    """Requests can be answered, also without the store; `degraded` says what is amiss."""
    return schemas.Readiness(degraded=await service.health.check())


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    collected = cast("Metrics", request.app.state.metrics)
    return Response(collected.render(), media_type=CONTENT_TYPE_LATEST)


def _packed(interactions: tuple[schemas.Interaction, ...]) -> tuple[UInt64, Int64]:
    ts_us = np.array([to_ts_us(entry.ts) for entry in interactions], dtype=np.int64)
    return item_keys(entry.item_id for entry in interactions), ts_us
