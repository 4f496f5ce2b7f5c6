"""HTTP bodies about items."""

from typing import Annotated

from pydantic import Field

from serving.api.schemas import MAX_EVENTS, MAX_MICROS, Body, Id, Value, Whole

MAX_POPULARITY = 1e12


class ItemUpdate(Body):
    """What changes about an item; what is left out stays as it was."""

    item_id: Id
    available: Annotated[bool, Field(strict=True)] | None = None
    """May be recommended; a new item may, unless this says otherwise."""
    price_micros: Annotated[int, Field(strict=True, ge=0, le=MAX_MICROS), Whole] | None = None
    """0 where no price is known."""
    popularity: Annotated[float, Field(strict=True, ge=0, le=MAX_POPULARITY)] | None = None
    """Interactions in the window that the bundle counts them in."""
    fields: dict[Id, Value | None] = Field(default={}, max_length=64)
    """Values of the bundle's item fields; unknown names are ignored, unknown values are unknown."""


class PutItemsRequest(Body):
    """Items that change or come, in this order."""

    items: tuple[ItemUpdate, ...] = Field(min_length=1, max_length=MAX_EVENTS)


class PutItemsResponse(Body):
    """All items are in the store, and those not refused in the bundles of the worker asked."""

    put: int
    new: int
    """Items that nobody had heard of."""
    refused: dict[str, tuple[str, ...]]
    """New items that a bundle (`name@version`) has no room for; a newer export has."""


class ItemPut(Body):
    """Everything that was put about an item; null is what never was."""

    available: bool | None
    price_micros: int | None
    popularity: float | None
    fields: dict[str, str | None]


class ItemHeld(Body):
    """What a bundle answers with."""

    row: int
    available: bool
    price_micros: int
    popularity: float
    fields: dict[str, str | None]
    """Null is a value that the bundle does not know."""


class ItemResponse(Body):
    """What the server knows of an item."""

    item_id: str
    put: ItemPut | None
    bundles: dict[str, ItemHeld]
    """By `name@version`: the bundles of the worker asked that know the item."""
