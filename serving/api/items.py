"""Items over HTTP: what changes about them, and what the server knows of them."""

from typing import Annotated

from fastapi import APIRouter, Path

from serving.api import item_schemas, schemas
from serving.api.body import StrictJsonRoute
from serving.api.errors import MEDIA_TYPE
from serving.api.routes import Opened
from serving.state.items import ItemChange

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}
_ERRORS: dict[int | str, dict[str, object]] = {422: _PROBLEM, 503: _PROBLEM}

router = APIRouter(prefix="/v1/items", route_class=StrictJsonRoute)

ItemId = Annotated[str, Path(min_length=1, max_length=128)]


@router.put("", responses={**_ERRORS, 413: _PROBLEM})
async def put_items(
    body: item_schemas.PutItemsRequest, service: Opened
) -> item_schemas.PutItemsResponse:
    """Change items, or add new ones; every worker answers with them within a second.

    What is left out of an item stays as it was. What was put holds for all bundles, also for those
    that are loaded later.
    """
    changes = [
        ItemChange(
            item_id=item.item_id,
            available=item.available,
            price_micros=item.price_micros,
            popularity=item.popularity,
            fields=item.fields,
        )
        for item in body.items
    ]
    done = await service.assortment.put(changes)
    return item_schemas.PutItemsResponse(put=len(changes), new=done.new, refused=done.refused)


@router.get("/{item_id:path}", responses={**_ERRORS, 404: _PROBLEM})
async def get_item(item_id: ItemId, service: Opened) -> item_schemas.ItemResponse:
    """What was put about an item, and what each bundle of the worker that is asked holds."""
    known = await service.assortment.find(item_id)
    return item_schemas.ItemResponse(
        item_id=item_id,
        put=known.state and item_schemas.ItemPut.model_validate(known.state, from_attributes=True),
        bundles={
            bundle: item_schemas.ItemHeld.model_validate(held, from_attributes=True)
            for bundle, held in known.held.items()
        },
    )
