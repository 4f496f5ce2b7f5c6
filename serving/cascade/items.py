"""Items: what a served bundle knows about each item now; changes while it serves.

All arrays are over rows: 0 is the unknown item, then the bundle's items, then spare rows for items
that are put while the bundle serves. Changed only between requests, in the thread that answers, and
only by `serving.cascade.stock.Stock`.

Legend: R rows, F item fields, N rows that change.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serving.cascade.live_index import LiveIndex
from training.bundle import ITEMS, Bundle, ItemTable, read_items
from training.features import OOV, CategoricalField, Int64

Mask = NDArray[np.bool_]


class ItemValues(NamedTuple):
    """What rows hold."""

    available_N: Mask
    price_micros_N: Int64
    popularity_N: NDArray[np.float32]
    fields_NF: Int64
    """Code of each item field of the schema."""
    put_us_N: Int64
    """When the item was put for the first time, microseconds since the Unix epoch; 0 if never."""


class Items:
    """Availability, price, popularity and fields of items, by row."""

    def __init__(
        self, table: ItemTable, fields: Mapping[str, NDArray[np.int64]], spare_rows: int = 0
    ) -> None:
        """Take over the items of a bundle.

        Args:
            table: of the bundle.
            fields: for each item field of the schema its codes, int64, one for the unknown item
                and one for each item; `OOV` where unknown.
            spare_rows: rows that follow those of the items.
        """
        self.index = LiveIndex(table.index, spare_rows)
        around = (1, spare_rows)
        self.available_R: Mask = np.pad(table.available, around)
        self.price_micros_R: Int64 = np.pad(table.price_micros, around)
        self.popularity_R: NDArray[np.float32] = np.pad(table.popularity, around)
        self.fields: dict[str, NDArray[np.int64]] = {
            name: np.pad(codes, (0, spare_rows)) for name, codes in fields.items()
        }
        self.put_us_R: Int64 = np.zeros(len(self.available_R), dtype=np.int64)
        self._available_rows: Int64 | None = None

    def __len__(self) -> int:
        """Number of rows, the unknown item and unused spare rows included."""
        return len(self.available_R)

    def item_ids(self, rows: Int64) -> tuple[str, ...]:
        """Ids of rows, none of which is the unknown item."""
        return self.index.ids_at(rows)

    @property
    def available_rows(self) -> Int64:
        """Rows of all available items, ascending."""
        if self._available_rows is None:
            self._available_rows = np.flatnonzero(self.available_R)
        return self._available_rows

    def values(self, rows_N: Int64) -> ItemValues:
        """What rows hold now, as a copy."""
        codes = [self.fields[name][rows_N] for name in self.fields]
        return ItemValues(
            self.available_R[rows_N],
            self.price_micros_R[rows_N],
            self.popularity_R[rows_N],
            np.stack(codes, axis=1) if codes else np.empty((len(rows_N), 0), dtype=np.int64),
            self.put_us_R[rows_N],
        )

    def write(self, rows_N: Int64, values: ItemValues) -> None:
        """Replace what rows hold."""
        self.available_R[rows_N] = values.available_N
        self.price_micros_R[rows_N] = values.price_micros_N
        self.popularity_R[rows_N] = values.popularity_N
        for codes_R, codes_N in zip(self.fields.values(), values.fields_NF.T, strict=True):
            codes_R[rows_N] = codes_N
        self.put_us_R[rows_N] = values.put_us_N
        self._available_rows = None


def load_items(bundle: Bundle) -> Items:
    """The items of a verified bundle, with its spare rows."""
    schema = bundle.manifest.features.item
    columns = pq.read_table(bundle.file(ITEMS), columns=[field.name for field in schema])
    fields = {field.name: _codes(field, columns[field.name]) for field in schema}
    return Items(read_items(bundle), fields, bundle.manifest.spare_rows)


def _codes(field: CategoricalField, values: pa.ChunkedArray) -> Int64:
    """Codes of a column, after that of the unknown item."""
    vocabulary = pa.array(field.vocabulary, pa.string())
    places = pc.index_in(pc.cast(values, pa.string()), value_set=vocabulary, skip_nulls=True)
    codes: Int64 = pc.fill_null(places, OOV - 1).to_numpy().astype(np.int64) + 1
    return np.concatenate([[OOV], codes])
