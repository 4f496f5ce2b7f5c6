"""Recent: the newest events of an experiment, and who asks."""

from typing import Annotated, Any, cast

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from redis.asyncio import Redis

from abtest.events import RANKING
from abtest.log.event_log import FIELD, STREAM
from serving.api import schemas
from serving.api.auth import CALLER, Caller
from serving.api.errors import MEDIA_TYPE
from serving.api.routes import Opened

MAX_EVENTS = 200
SCANNED = 1_000
"""Newest events of the stream that are looked at, of whichever experiment."""
_PAGE = 200

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}

router = APIRouter(prefix="/v1")


class RecentEvent(BaseModel):
    """An event as a line of a list; what its type does not have is null."""

    event_id: str
    type: str
    event_ts_us: int
    """When it happened, microseconds since the Unix epoch."""
    ingest_ts_us: int
    request_id: str
    unit: str
    revision: int
    variant: str
    forced: bool
    items: int | None = None
    """Of an answer, the number of recommended items."""
    latency_us: int | None = None
    """Of an answer, the time it took inside the server."""
    degraded: tuple[str, ...] = ()
    item_id: str | None = None
    position: int | None = None
    revenue_micros: int | None = None
    currency: str | None = None
    refund_of: str | None = None


class RecentEvents(BaseModel):
    """Newest first. What is archived already, as it is every half minute, is not among them."""

    events: tuple[RecentEvent, ...]
    scanned: int
    """Events that were looked at; there may be older ones in the stream."""


class CallerResponse(BaseModel):
    """Who asks, as far as the server knows."""

    name: str
    """Of the API key; without keys, the client's address."""
    scopes: tuple[str, ...]
    secured: bool
    """Whether the server has API keys."""


@router.get("/caller", responses={503: _PROBLEM})
async def caller(request: Request) -> CallerResponse:
    """Which API key the request was sent with, and what it may."""
    found: Caller = request.scope["state"][CALLER]
    secured: bool = request.app.state.guard.secured()
    return CallerResponse(name=found.name, scopes=tuple(sorted(found.scopes)), secured=secured)


@router.get("/events/recent", responses={422: _PROBLEM, 503: _PROBLEM})
async def recent_events(
    service: Opened,
    experiment: Annotated[str, Query(min_length=1, max_length=100)],
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 50,
) -> RecentEvents:
    """The newest events of an experiment that wait to be archived, units in clear.

    At most the newest thousand events of the whole stream are looked at.
    """
    return await newest(service.store, experiment, limit)


async def newest(client: Redis, key: str, limit: int) -> RecentEvents:
    """The newest events of the stream that an experiment split.

    Args:
        client: of the store; it must not decode responses.
        key: of the experiment.
        limit: of the events that are returned.
    """
    found: list[RecentEvent] = []
    # As the log writes it; a quick way past the many events of others.
    named = b'"key":' + orjson.dumps(key)
    end, scanned = "+", 0
    while scanned < SCANNED and len(found) < limit:
        page: Any = await client.xrevrange(STREAM, end, "-", count=_PAGE)
        if not page:
            break
        scanned += len(page)
        end = "(" + cast("bytes", page[-1][0]).decode()
        for _, fields in page:
            content = fields.get(FIELD.encode(), b"")
            line = _line(orjson.loads(content), key) if named in content else None
            if line is not None:
                found.append(line)
    return RecentEvents(events=tuple(found[:limit]), scanned=scanned)


def _line(event: dict[str, Any], key: str) -> RecentEvent | None:
    """The line of an event, None where the experiment did not split it."""
    given = next((a for a in event["experiments"] if a["key"] == key), None)
    if given is None:
        return None
    shown = {name: event[name] for name in RecentEvent.model_fields if name in event}
    shown |= {name: given[name] for name in ("revision", "variant", "forced")}
    if event["type"] == RANKING:
        shown |= {"items": len(event["item_ids"]), "latency_us": event["latency_us"]["total"]}
    return RecentEvent.model_validate(shown)
