"""Nearest: the source of recall that looks where the user's vector points.

What is hidden from the index (unavailable items, and items whose vector is not the indexed one any
more) is left out inside the search where FAISS can, and by asking for more where it cannot. Vectors
that came or changed lie in an overlay, which is searched exactly. Where few items are open, an
approximate search would miss them: they are searched exactly.

Legend: B requests, D width, A available rows, I items of the bundle, M overlaid rows, k results.
"""

import numpy as np

from serving.cascade.items import Items
from serving.cascade.recall.index import Index
from serving.cascade.recall.recalled import Float32, Mask
from serving.cascade.recall.vectors import Vectors
from training.features import OOV, Int64

LOW_SHARE = 0.1
"""Where a smaller share of the index is open, all available items are compared one by one."""
FEW_HIDDEN = 0.25
"""Up to this share of the results, hidden items are asked for in addition: it is cheaper."""


class Nearest:
    """Available items with the largest inner products."""

    def __init__(self, index: Index, vectors: Vectors, items: Items) -> None:
        """Search an index of the bundle's items, and the overlay of `vectors`."""
        self._index = index
        self._vectors = vectors
        self._items = items
        # Bit p stands for row p + 1. Bits past the index are never looked at.
        self._open_bits = np.packbits(items.available_R[1 : index.size + 1], bitorder="little")
        self._n_open = int(items.available_R[1 : index.size + 1].sum())
        self._shown_M: Int64 = np.empty(0, dtype=np.int64)
        self._exact: tuple[Int64, Float32] | None = None

    def refresh(self, rows_N: Int64) -> None:
        """Take over the availability and the vectors of distinct rows."""
        indexed = rows_N[rows_N <= self._index.size]
        positions = indexed - 1
        bits = (1 << (positions & 7)).astype(np.uint8)
        places = positions >> 3
        before = int(((self._open_bits[places] & bits) != 0).sum())
        np.bitwise_and.at(self._open_bits, places, ~bits)
        stays = self._items.available_R[indexed] & ~self._vectors.is_overlaid(indexed)
        np.bitwise_or.at(self._open_bits, places[stays], bits[stays])
        self._n_open += int(stays.sum()) - before
        overlaid = self._vectors.overlaid_rows
        self._shown_M = np.where(self._items.available_R[overlaid], overlaid, OOV)
        self._exact = None

    def search(self, users_BD: Float32, k: int) -> Int64:
        """Rows [B, N] of available items, best first, and `OOV` anywhere in between.

        At least k of each request are items, if there are as many; an approximate index may give
        fewer. Vectors must be finite.
        """
        if self._n_open < LOW_SHARE * self._index.size or not self._n_open:
            return self._compare(users_BD, k)
        scores_BN, rows_BN = self._search_index(users_BD, k)
        if not self._shown_M.any():
            return rows_BN
        added_BM = users_BD @ self._vectors.overlaid.T
        return _best(
            np.concatenate([scores_BN, added_BM], axis=1),
            np.concatenate([rows_BN, np.broadcast_to(self._shown_M, added_BM.shape)], axis=1),
            k,
        )

    def _search_index(self, users_BD: Float32, k: int) -> tuple[Float32, Int64]:
        """Scores and rows [B, N]; `OOV` anywhere in between."""
        index, hidden = self._index, self._index.size - self._n_open
        if hidden > FEW_HIDDEN * k and not index.on_gpu:
            share = self._n_open / index.size
            asked = min(k, self._n_open)
            scores, positions = index.search_open(users_BD, asked, self._open_bits, share)
            return scores, positions + 1
        return self._search_more(users_BD, k, hidden)

    def _search_more(self, users_BD: Float32, k: int, hidden: int) -> tuple[Float32, Int64]:
        """Ask for more until every request has k open rows, or there are no more."""
        asked = min(k + min(hidden, k), self._index.most)
        while True:
            scores, positions = self._index.search(users_BD, asked)
            if not hidden:
                return scores, positions + 1
            rows = np.where(self._is_open(positions), positions + 1, OOV)
            # Where the last result is no result, asking for more gives none.
            short = ((rows != OOV).sum(axis=1) < k) & (positions[:, -1] >= 0)
            if asked == self._index.most or not short.any():
                return scores, rows
            asked = min(2 * asked, self._index.most)

    def _is_open(self, positions: Int64) -> Mask:
        bits = self._open_bits.take(positions >> 3) >> (positions & 7).astype(np.uint8)
        is_open: Mask = (positions >= 0) & ((bits & 1) == 1)
        return is_open

    def _compare(self, users_BD: Float32, k: int) -> Int64:
        if self._exact is None:
            rows_A = self._items.available_rows
            self._exact = rows_A, self._vectors.of(rows_A)
        rows_A, vectors_AD = self._exact
        scores_BA = users_BD @ vectors_AD.T
        return _best(scores_BA, np.broadcast_to(rows_A, scores_BA.shape), k)


def _best(scores_BN: Float32, rows_BN: Int64, k: int) -> Int64:
    """The k rows with the largest scores, best first; `OOV` is the worst."""
    losses_BN = np.where(rows_BN == OOV, np.inf, -scores_BN)
    if losses_BN.shape[1] > k:
        kept = np.argpartition(losses_BN, k - 1, axis=1)[:, :k]
        losses_BN = np.take_along_axis(losses_BN, kept, axis=1)
        rows_BN = np.take_along_axis(rows_BN, kept, axis=1)
    order = np.argsort(losses_BN, axis=1, kind="stable")
    return np.take_along_axis(rows_BN, order, axis=1)
