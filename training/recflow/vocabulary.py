"""Vocabularies: rows for ids and for items, in the order of first sight.

Row 0 is padding and whatever is unknown.

Legend: N values, F fields of an item.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.recflow.growing import GrowingArray
from training.recflow.log import ITEM_FIELDS

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class Vocabulary:
    """Rows of the ids 0 to `count` - 1."""

    def __init__(self, count: int) -> None:
        """Nothing is known yet."""
        self._row_of_id = np.zeros(count, np.int32)
        self._ids = [np.array([-1], np.int64)]
        self._length = 1

    def __len__(self) -> int:
        """Rows, row 0 included."""
        return self._length

    @property
    def ids(self) -> Int64:
        """Id of each row; -1 in row 0."""
        return np.concatenate(self._ids)

    def rows(self, ids_N: Int64) -> Int32:
        """Rows of ids; one never seen before gets the next row."""
        rows_N = self._row_of_id[ids_N]
        unseen_M = ids_N[rows_N == 0]
        if len(unseen_M):
            new = unseen_M[_first_of_each(unseen_M, self._row_of_id)]
            self._row_of_id[new] = self._length + np.arange(len(new), dtype=np.int32)
            self._ids.append(new)
            self._length += len(new)
            rows_N[rows_N == 0] = self._row_of_id[unseen_M]
        return rows_N


class ItemTable:
    """Rows of items: distinct tuples of all that is known of a video.

    Items of a video are a chain: the newest, then the one before it, and so on; nearly every chain
    has one link.
    """

    def __init__(self, folder: Path, videos: int) -> None:
        """No items yet.

        Args:
            folder: for the files that the table needs until it is written.
            videos: rows of the vocabulary of videos at most.
        """
        self._items = GrowingArray(folder / "growing_items.npy", (len(ITEM_FIELDS),))
        self._before = GrowingArray(folder / "growing_chains.npy", ())
        self._newest_of_video = np.zeros(videos, np.int32)
        self._scratch = np.zeros(videos, np.int32)

    def __len__(self) -> int:
        """Rows, row 0 included."""
        return len(self._items)

    def rows(self, items_NF: Int32) -> Int32:
        """Rows of items; one never seen before gets the next row.

        Args:
            items_NF: [N, F] as `ITEM_FIELDS`; videos are not 0.
        """
        rows_N: Int32 = self._newest_of_video[items_NF[:, 0]]
        open_M = np.flatnonzero(rows_N)
        while len(open_M):
            same_M = _equal(self._items.rows[rows_N[open_M]], items_NF[open_M])
            open_M = open_M[~same_M]
            rows_N[open_M] = self._before.rows[rows_N[open_M]]
            open_M = open_M[rows_N[open_M] != 0]
        unseen_M = np.flatnonzero(rows_N == 0)
        if len(unseen_M):
            rows_N[unseen_M] = self._add(items_NF[unseen_M])
        return rows_N

    def write(self, path: Path) -> None:
        """Move the table to its file; nothing can be added any more."""
        self._items.finish(path)
        self._before.remove()

    def _add(self, items_NF: Int32) -> Int32:
        """Rows of items that are not in the table, which gets each of them once."""
        leader_N = np.arange(len(items_NF))
        open_M = leader_N
        rounds = []
        while len(open_M):
            videos_M = items_NF[open_M, 0]
            first_M = np.empty_like(open_M)
            # The first of each video leads those that are equal to it; the others go on.
            firsts = _first_of_each(videos_M, self._scratch)
            self._scratch[videos_M[firsts]] = firsts
            first_M = open_M[self._scratch[videos_M]]
            self._scratch[videos_M] = 0
            rounds.append(open_M[firsts])
            same_M = _equal(items_NF[first_M], items_NF[open_M])
            leader_N[open_M[same_M]] = first_M[same_M]
            open_M = open_M[~same_M]
        leads_N = leader_N == np.arange(len(items_NF))
        row_of_leader_N = (len(self) - 1 + np.cumsum(leads_N)).astype(np.int32)
        start = len(self)
        self._items.extend(items_NF[leads_N])
        self._before.extend(np.zeros(len(self) - start, np.int32))
        for leaders in rounds:
            videos, rows = items_NF[leaders, 0], row_of_leader_N[leaders]
            self._before.rows[rows] = self._newest_of_video[videos]
            self._newest_of_video[videos] = rows
        return row_of_leader_N[leader_N]


def _first_of_each(keys_N: NDArray[np.integer], scratch: Int32) -> Int64:
    """Places of the first of all equal keys, ascending.

    Args:
        keys_N: at least 0.
        scratch: an array to write to at every key; the keys' entries are 0 and become so again.
    """
    places = np.arange(len(keys_N), dtype=np.int32)
    # Where an index is repeated, the last assignment counts.
    scratch[keys_N[::-1]] = places[::-1]
    first_N = scratch[keys_N] == places
    scratch[keys_N] = 0
    return np.flatnonzero(first_N)


def _equal(left_NF: Int32, right_NF: Int32) -> NDArray[np.bool_]:
    # Pairs of int32 are compared at once.
    same_NH = np.ascontiguousarray(left_NF).view(np.int64) == np.ascontiguousarray(right_NF).view(
        np.int64
    )
    return np.asarray(same_NH[:, 0] & same_NH[:, 1] & same_NH[:, 2] & same_NH[:, 3])
