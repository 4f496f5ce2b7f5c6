"""Live index: the rows of a served bundle's items, and of items that came while it serves."""

from collections.abc import Sequence

import numpy as np

from training.features import OOV, Int64, ItemIndex, UInt64, item_keys


class LiveIndex:
    """Item ids by row: 0 is the unknown item, the bundle's items follow, then those added later."""

    def __init__(self, bundled: ItemIndex, spare_rows: int) -> None:
        """Go on from a bundle's index.

        Args:
            bundled: the items of the bundle.
            spare_rows: so many items can be added.
        """
        self.bundled = bundled
        self.spare_rows = spare_rows
        """Rows that are left for items to come."""
        self._added: list[str] = []
        self._added_row: dict[str, int] = {}
        self._sorted_keys = item_keys(())
        self._sorted_rows: Int64 = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Rows in use, that of the unknown item included."""
        return len(self.bundled) + len(self._added)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids by row, beginning with row 1."""
        return (*self.bundled.item_ids, *self._added)

    def row(self, item_id: str) -> int:
        """Row of an item, `OOV` where it has none."""
        return self.bundled.row(item_id) or self._added_row.get(item_id, OOV)

    def item_id(self, row: int) -> str:
        """Id of the item at `row`, which is at least 1."""
        first_added = len(self.bundled)
        return self.bundled.item_id(row) if row < first_added else self._added[row - first_added]

    def rows_of_keys(self, keys: UInt64) -> Int64:
        """Rows of history keys, `OOV` where there is no such item."""
        rows = self.bundled.rows_of_keys(keys)
        if not self._added:
            return rows
        places = np.minimum(np.searchsorted(self._sorted_keys, keys), len(self._added) - 1)
        found = self._sorted_keys[places] == keys
        return np.where(found, self._sorted_rows[places], rows)

    def add(self, item_ids: Sequence[str]) -> None:
        """Give rows to new items, in their order; there must be as many spare ones."""
        assert len(item_ids) <= self.spare_rows
        assert not any(self.row(item_id) for item_id in item_ids)
        keys = item_keys(item_ids)
        order = np.argsort(keys)
        places = np.searchsorted(self._sorted_keys, keys[order])
        self._sorted_keys = np.insert(self._sorted_keys, places, keys[order])
        self._sorted_rows = np.insert(self._sorted_rows, places, order + len(self))
        for item_id in item_ids:
            self._added_row[item_id] = len(self)
            self._added.append(item_id)
        self.spare_rows -= len(item_ids)
