"""Items: what a served bundle knows about each item now; changes while it serves.

All arrays are over rows: 0 is the unknown item, then the bundle's items, then spare rows for items
that are put while the bundle serves. Changed only between requests, in the thread that answers.

Legend: R rows.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.bundle import ItemTable
from training.features import Int64, ItemIndex

Mask = NDArray[np.bool_]


class Items:
    """Availability, price, popularity and fields of items, by row."""

    def __init__(self, table: ItemTable, fields: Mapping[str, NDArray[np.int64]]) -> None:
        """Take over the items of a bundle.

        Args:
            table: of the bundle.
            fields: for each item field of the schema its codes, int64 [R]; `OOV` where unknown.
        """
        self.index: ItemIndex = table.index
        self.available_R: Mask = np.concatenate([[False], table.available])
        self.price_micros_R: Int64 = np.concatenate([[0], table.price_micros])
        self.popularity_R: NDArray[np.float32] = np.concatenate(
            [np.zeros(1, dtype=np.float32), table.popularity]
        )
        self.fields: dict[str, NDArray[np.int64]] = dict(fields)

    def __len__(self) -> int:
        """Number of rows, the unknown item and unused spare rows included."""
        return len(self.available_R)

    def item_ids(self, rows: Int64) -> tuple[str, ...]:
        """Ids of rows, none of which is the unknown item."""
        return tuple(self.index.item_id(row) for row in rows.tolist())
