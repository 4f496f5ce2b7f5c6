"""Vectors: where every item stands in the space of retrieval, also items put while serving.

The table of a bundle is mapped from its file and shared by all workers, so it is never written to:
vectors that change, or that come, are kept beside it.

Legend: D width, I items of the bundle, M overlaid rows, N rows, R rows.
"""

import numpy as np

from serving.cascade.recall.recalled import Float32, Mask
from training.features import Int64

_NONE = -1


class Vectors:
    """Item vectors by row."""

    def __init__(self, embeddings_ID: Float32, n_rows: int) -> None:
        """Begin with the bundle's vectors, of rows 1 to I out of `n_rows`."""
        self._embeddings_ID = embeddings_ID
        self._place_R = np.full(n_rows, _NONE, dtype=np.int32)
        self._rows: Int64 = np.empty(0, dtype=np.int64)
        self._overlay: Float32 = np.empty((0, embeddings_ID.shape[1]), dtype=np.float32)
        self._size = 0

    @property
    def overlaid_rows(self) -> Int64:
        """Rows [M] whose vector is not the bundle's."""
        return self._rows[: self._size]

    @property
    def overlaid(self) -> Float32:
        """Vectors [M, D] of those rows."""
        return self._overlay[: self._size]

    def is_overlaid(self, rows_N: Int64) -> Mask:
        """Which rows have another vector than the bundle's, or one that the bundle has not."""
        overlaid_N: Mask = self._place_R[rows_N] != _NONE
        return overlaid_N

    def of(self, rows_N: Int64) -> Float32:
        """Vectors [N, D] of rows that have one."""
        # `take` is twice as fast as indexing with an array.
        if not self._size:
            return self._embeddings_ID.take(rows_N - 1, axis=0)
        places_N = self._place_R.take(rows_N)
        vectors_ND = self._embeddings_ID.take(np.where(places_N == _NONE, rows_N - 1, 0), axis=0)
        overlaid_N = places_N != _NONE
        vectors_ND[overlaid_N] = self._overlay[places_N[overlaid_N]]
        return vectors_ND

    def put(self, rows_N: Int64, vectors_ND: Float32) -> None:
        """Set the vectors of distinct rows."""
        new = rows_N[self._place_R[rows_N] == _NONE]
        self._grow(self._size + len(new))
        places = np.arange(self._size, self._size + len(new), dtype=np.int32)
        self._place_R[new] = places
        self._rows[places] = new
        self._size += len(new)
        self._overlay[self._place_R[rows_N]] = vectors_ND

    def _grow(self, size: int) -> None:
        room = len(self._rows)
        if size > room:
            more = max(size, 2 * room) - room
            self._rows = np.pad(self._rows, (0, more))
            self._overlay = np.pad(self._overlay, ((0, more), (0, 0)))
