"""Allowed: which rows a request may get. Legend: N rows, R all rows, E excluded rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from serving.cascade.items import Items, Mask
from training.features import Int64

FIRST_LOOK = 4
"""A list is first looked at to this many times the rows that are wanted of it."""


class Allowed:
    """Rows that are available, and that the request at hand does not exclude."""

    def __init__(self, items: Items) -> None:
        """Judge by the availability of `items`, as it is at each call."""
        self._items = items
        # One mask for all requests, written and wiped at a few rows for each, instead of a copy.
        self._excluded_R = np.zeros(len(items), dtype=np.bool_)

    @contextmanager
    def without(self, excluded_E: Int64) -> Iterator[None]:
        """Exclude rows within the block."""
        self._excluded_R[excluded_E] = True
        try:
            yield
        finally:
            self._excluded_R[excluded_E] = False

    def of(self, rows_N: Int64) -> Int64:
        """The allowed ones of rows, in their order."""
        return rows_N[self._items.available_R[rows_N] & ~self._excluded_R[rows_N]]

    def first(self, rows_N: Int64, size: int, among_R: Mask | None = None) -> Int64:
        """The first `size` allowed ones of rows, of those in `among_R` if it is given."""
        seen = FIRST_LOOK * size
        while True:
            rows = rows_N[:seen]
            found = self.of(rows if among_R is None else rows[among_R[rows]])
            if len(found) >= size or seen >= len(rows_N):
                return found[:size]
            seen *= FIRST_LOOK
