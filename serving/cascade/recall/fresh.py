"""Fresh: the source of recall for items that no model was trained on. Legend: R rows."""

import numpy as np

from serving.cascade.items import Items
from serving.cascade.recall.allowed import Allowed
from training.features import Int64


class Fresh:
    """Items that came after the bundle was made, the newest first."""

    def __init__(self, items: Items, allowed: Allowed) -> None:
        """Begin with none."""
        self._items = items
        self._allowed = allowed
        self._order: Int64 = np.empty(0, dtype=np.int64)

    def sort(self) -> None:
        """Take over the items that have come."""
        index = self._items.index
        rows = np.arange(len(index.bundled), len(index))
        self._order = rows[np.lexsort((rows, -self._items.put_us_R[rows]))]

    def newest(self, size: int) -> Int64:
        """The `size` newest allowed items, fewer where there are fewer."""
        return self._allowed.first(self._order, size)
