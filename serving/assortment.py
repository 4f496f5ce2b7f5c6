"""Assortment: the items that were put, in the store and in every bundle this worker has loaded."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from serving.cascade.funnel import Funnel
from serving.cascade.stock import Held, StockError
from serving.state.items import ItemChange, ItemState, ItemStore
from serving.telemetry.metrics import Metrics

PAGE = 200
"""Items put at once. Requests are answered between two pages."""

logger = logging.getLogger(__name__)


class UnknownItemError(LookupError):
    """Nobody has heard of an item; the message says how it is put."""


class Known(NamedTuple):
    """What is known of an item."""

    state: ItemState | None
    """What was put about it, None if nothing was."""
    held: dict[str, Held]
    """What the bundles that have a row for it hold, by `name@version`."""


class Put(NamedTuple):
    """What came of a put."""

    new: int
    """Items that nobody had heard of."""
    refused: dict[str, tuple[str, ...]]
    """By `name@version` of a bundle: items that it has no spare row for."""


class Assortment:
    """Takes items in and hands them to the bundles."""

    def __init__(
        self, store: ItemStore, funnels: Callable[[], Mapping[str, Funnel]], metrics: Metrics
    ) -> None:
        """Keep items in `store`, and put them into the bundles that `funnels` gives at the time."""
        self._store = store
        self._funnels = funnels
        self._metrics = metrics
        self._turn = asyncio.Lock()

    async def put(self, changes: Sequence[ItemChange]) -> Put:
        """Put items; they are in the store, and in this worker's bundles, when this returns.

        Raises:
            redis.RedisError: the store is away; nothing was put.
            StockError: the modules of a bundle failed, in which the items are put later.
        """
        ids = {change.item_id for change in changes}
        bundled = {i for i in ids if any(f.items.index.row(i) for f in self._funnels().values())}
        new = set(await self._store.put(changes)) - bundled
        self._metrics.items_put.inc(len(changes))
        await self.apply()
        refused = {
            bundle: tuple(sorted(ids & funnel.stock.refused))
            for bundle, funnel in self._funnels().items()
        }
        return Put(len(new), {bundle: items for bundle, items in refused.items() if items})

    async def apply(self) -> None:
        """Bring every bundle up to date; to be called when items changed in the store.

        Raises:
            redis.RedisError: the store is away; what is missing is put at the next call.
            StockError: the modules of a bundle failed; the others are up to date.
        """
        failures = []
        for funnel in self._funnels().values():
            try:
                await self.catch_up(funnel)
            except StockError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def catch_up(self, funnel: Funnel) -> None:
        """Bring one bundle up to date.

        Raises:
            redis.RedisError: the store is away.
            StockError: a module of the bundle failed.
        """
        stock = funnel.stock
        async with self._turn:
            while (changes := await self._store.changed_since(stock.revision, PAGE)).states:
                before = set(stock.refused)
                stock.put(changes)
                for item_id in sorted(stock.refused - before):
                    logger.warning("%s has no spare row for item %r", funnel.bundle, item_id)
                    self._metrics.items_refused.labels(funnel.bundle).inc()

    async def find(self, item_id: str) -> Known:
        """What is known of an item.

        Raises:
            UnknownItemError: nothing is.
            redis.RedisError: the store is away.
        """
        state = await self._store.get(item_id)
        held_by = {name: f.stock.held(item_id) for name, f in self._funnels().items()}
        held = {bundle: held for bundle, held in held_by.items() if held is not None}
        if state is None and not held:
            raise UnknownItemError(
                f"item {item_id!r} is in no bundle and was never put; put it with PUT /v1/items"
            )
        return Known(state, held)
