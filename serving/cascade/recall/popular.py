"""Popular: the source of recall that needs no model. Legend: N rows."""

import numpy as np

from serving.cascade.items import Items
from serving.cascade.recall.allowed import Allowed
from training.features import Int64


class Popular:
    """Items by popularity, the most popular first."""

    def __init__(self, items: Items, allowed: Allowed) -> None:
        """Order the items as they are."""
        self._items = items
        self._allowed = allowed
        self._order: Int64 = np.argsort(-items.popularity_R[1 : len(items.index)], kind="stable")
        self._order += 1
        # An item whose popularity is put leaves its place in the order for a list of its own, which
        # is short: sorting a catalogue takes as long as many answers.
        self._in_order_R = np.ones(len(items), dtype=np.bool_)
        self._moved: Int64 = np.empty(0, dtype=np.int64)

    def move(self, rows_N: Int64) -> None:
        """Take over the popularity of rows, which may be new."""
        self._in_order_R[rows_N] = False
        moved = np.union1d(self._moved, rows_N)
        self._moved = moved[np.argsort(-self._items.popularity_R[moved], kind="stable")]

    def best(self, size: int) -> Int64:
        """The `size` most popular allowed items, fewer where there are fewer."""
        if not size:
            return np.empty(0, dtype=np.int64)
        if not len(self._moved):
            return self._allowed.first(self._order, size)
        stayed = self._allowed.first(self._order, size, self._in_order_R)
        both = np.concatenate([stayed, self._allowed.first(self._moved, size)])
        popularity = self._items.popularity_R[both]
        best: Int64 = both[np.lexsort((both, -popularity))][:size]
        return best
