"""Units over HTTP: their right to be forgotten."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict

from abtest.log.erasure import Receipt
from serving.api import schemas
from serving.api.auth import CALLER
from serving.api.body import StrictJsonRoute
from serving.api.errors import MEDIA_TYPE
from serving.api.routes import Opened

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}
_ERRORS: dict[int | str, dict[str, object]] = {422: _PROBLEM, 503: _PROBLEM}

router = APIRouter(prefix="/v1/units", route_class=StrictJsonRoute)

Unit = Annotated[str, Path(min_length=1, max_length=128)]


class ErasureResponse(BaseModel):
    """How far the erasure of a unit is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    state: Literal["pending", "complete"]
    requested_at: datetime
    erased_until: datetime
    """Events taken in up to then are erased; what the unit does later is new, and stays."""
    completed_at: datetime | None
    """When nothing was left: in the store, journals, archived files and what is made of them."""
    removed_events: int
    """Taken out of archived files so far."""


@router.delete("/{unit}", status_code=HTTPStatus.ACCEPTED, responses=_ERRORS)
async def erase(unit: Unit, request: Request, service: Opened) -> ErasureResponse:
    """Erase everything about a unit: features, history, kept variants and events.

    What the next answer would be made of is gone at once, the rest within minutes. A second call
    while that is under way goes on with it, up to its own time. Totals of reports change.
    """
    return _response(await service.erasures.request(unit, request.scope["state"][CALLER].name))


@router.get("/{unit}/erasure", responses={**_ERRORS, 404: _PROBLEM})
async def erasure(unit: Unit, service: Opened) -> ErasureResponse:
    """The receipt of the newest erasure of a unit."""
    return _response(await service.erasures.receipt(unit))


def _response(receipt: Receipt) -> ErasureResponse:
    return ErasureResponse(
        id=receipt.id,
        state="pending" if receipt.completed_us is None else "complete",
        requested_at=_moment(receipt.requested_us),
        erased_until=_moment(receipt.erased_until_us),
        completed_at=None if receipt.completed_us is None else _moment(receipt.completed_us),
        removed_events=receipt.removed_events,
    )


def _moment(ts_us: int) -> datetime:
    return datetime.fromtimestamp(ts_us / 1_000_000, UTC)
