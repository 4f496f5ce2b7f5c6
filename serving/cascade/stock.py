"""Stock: puts items into a loaded bundle while it serves: its table, its stages and its recall.

Not for threads: the bundle answers between two puts, never during one.

Legend: N rows, F item fields, C rows whose vector changes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from serving.cascade.items import Items, ItemValues
from serving.cascade.recall.recall import Recall
from serving.state.items import Changes, ItemState
from training.features import OOV, FeatureSchema, Int64

MICROS = 1_000_000
WARM_UP_ROUNDS = 3
"""TorchScript compiles a method in its first calls."""


class StockError(RuntimeError):
    """A stage cannot take in items; what it holds stays as it was."""


class Held(NamedTuple):
    """What a bundle holds about an item."""

    row: int
    available: bool
    price_micros: int
    popularity: float
    fields: dict[str, str | None]
    """Value of each field of the bundle's schema, None for one that it does not know."""


class Stock:
    """The items of one loaded bundle, kept up to date."""

    def __init__(
        self,
        schema: FeatureSchema,
        items: Items,
        modules: Sequence[torch.jit.ScriptModule],
        recall: Recall,
        device: torch.device,
    ) -> None:
        """Put items into a bundle.

        Args:
            schema: of the bundle.
            items: its table.
            modules: its stages, that of retrieval first.
            recall: searches what retrieval encodes.
            device: of the modules.
        """
        self.revision = 0
        """Of the newest change that was put."""
        self.refused: set[str] = set()
        """Items that the bundle has no spare row for."""
        self._schema = schema
        self._items = items
        self._modules = tuple(modules)
        self._recall = recall
        self._device = device

    def warm_up(self) -> None:
        """Run what the modules do for items until it is compiled, on rows that are not in use.

        Raises:
            StockError: a module cannot.
        """
        spare = np.arange(len(self._items.index), len(self._items))[:2]
        for _ in range(WARM_UP_ROUNDS if len(spare) else 0):
            self._encode(spare, self._items.values(spare))

    def put(self, changes: Changes) -> None:
        """Put a page of changes.

        An item that is new to the bundle gets a spare row once it is available. Where none is left
        it is refused; the others are put.

        Raises:
            StockError: a module failed; the page can be put again.
        """
        self._add(changes.states)
        known = [s for s in changes.states if self._items.index.row(s.item_id) != OOV]
        if known:
            self._write(known)
        self.revision = changes.revision

    def held(self, item_id: str) -> Held | None:
        """What the bundle holds about an item, None if it has no row."""
        row = self._items.index.row(item_id)
        if row == OOV:
            return None
        values = self._items.values(np.array([row]))
        codes = values.fields_NF[0].tolist()
        return Held(
            row=row,
            available=bool(values.available_N[0]),
            price_micros=int(values.price_micros_N[0]),
            popularity=float(values.popularity_N[0]),
            fields={
                field.name: None if code == OOV else field.vocabulary[code - 1]
                for field, code in zip(self._schema.item, codes, strict=True)
            },
        )

    def _add(self, states: Sequence[ItemState]) -> None:
        index = self._items.index
        new = [s for s in states if index.row(s.item_id) == OOV and s.available is not False]
        new.sort(key=lambda state: state.created)
        ids = [state.item_id for state in new]
        self.refused.difference_update(state.item_id for state in states)
        self.refused.update(ids[index.spare_rows :])
        index.add(ids[: index.spare_rows])

    def _write(self, states: Sequence[ItemState]) -> None:
        rows_N = np.array([self._items.index.row(s.item_id) for s in states], dtype=np.int64)
        before = self._items.values(rows_N)
        after = self._merged(rows_N, states, before)
        changed_N = (
            (before.put_us_N == 0) & (rows_N >= len(self._items.index.bundled))
            | (before.price_micros_N != after.price_micros_N)
            | (before.popularity_N != after.popularity_N)
            | (before.fields_NF != after.fields_NF).any(axis=1)
        )
        revalued = rows_N[changed_N]
        # The modules first: if one fails, nothing here has changed, and all can be put again.
        vectors_CD = self._encode(revalued, ItemValues(*(part[changed_N] for part in after)))
        self._items.write(rows_N, after)
        self._recall.put(rows_N, vectors_CD, revalued)

    def _merged(self, rows_N: Int64, states: Sequence[ItemState], before: ItemValues) -> ItemValues:
        """What rows held, with what was put over it."""
        n_bundled = len(self._items.index.bundled)
        available = before.available_N | (rows_N >= n_bundled)
        price_micros, popularity = before.price_micros_N.copy(), before.popularity_N.copy()
        fields_NF = before.fields_NF.copy()
        for n, state in enumerate(states):
            if state.available is not None:
                available[n] = state.available
            if state.price_micros is not None:
                price_micros[n] = state.price_micros
            if state.popularity is not None:
                popularity[n] = state.popularity
            for f, field in enumerate(self._schema.item):
                if field.name in state.fields:
                    fields_NF[n, f] = field.encode(state.fields[field.name])
        created = np.array([state.created for state in states], dtype=np.int64)
        return ItemValues(available, price_micros, popularity, fields_NF, created)

    def _encode(
        self, rows_C: Int64, values: ItemValues
    ) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        """Tell the modules about rows; the vectors [C, D] that retrieval gives them."""
        rows = self._tensor(rows_C)
        about = (
            rows,
            self._tensor(values.fields_NF),
            self._tensor((values.price_micros_N / MICROS).astype(np.float32)),
            self._tensor(values.popularity_N),
        )
        try:
            with torch.inference_mode():
                for module in self._modules:
                    module.put_items(*about)
                vectors: Tensor = self._modules[0].encode_items(rows)
        except (RuntimeError, AttributeError, torch.jit.Error) as error:
            raise StockError(
                f"its modules cannot take in items ({error}); export the run again"
            ) from error
        vectors_CD: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = (
            vectors.float().cpu().numpy()
        )
        return vectors_CD

    def _tensor(self, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Tensor:
        return torch.from_numpy(array).to(self._device)
