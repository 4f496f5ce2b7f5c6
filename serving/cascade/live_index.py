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
        self._ids = ["", *bundled.item_ids]
        self._added_row: dict[str, int] = {}
        self._sorted_keys = item_keys(())
        self._sorted_rows: Int64 = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Rows in use, that of the unknown item included."""
        return len(self._ids)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids by row, beginning with row 1."""
        return tuple(self._ids[1:])

    def row(self, item_id: str) -> int:
        """Row of an item, `OOV` where it has none."""
        return self.bundled.row(item_id) or self._added_row.get(item_id, OOV)

    def ids_at(self, rows: Int64) -> tuple[str, ...]:
        """Ids of rows in use; that of the unknown item is empty."""
        return tuple(map(self._ids.__getitem__, rows.tolist()))

    def rows_of_keys(self, keys: UInt64) -> Int64:
        """Rows of history keys, `OOV` where there is no such item."""
        rows = self.bundled.rows_of_keys(keys)
        if not self._added_row:
            return rows
        places = np.minimum(np.searchsorted(self._sorted_keys, keys), len(self._added_row) - 1)
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
            self._ids.append(item_id)
        self.spare_rows -= len(item_ids)
