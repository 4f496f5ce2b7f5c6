"""Index: which structure finds a user vector's nearest items, and how hard it must look.

Legend: Q user vectors, I items, D width, K items recalled.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from training.config import IndexConfig

FLAT_ITEMS = 100_000
"""Up to so many items `auto` compares with every one of them."""

_POINTS_PER_LIST = 39
"""As FAISS advises."""
_MOST_POINTS_PER_LIST = 100
_ROUNDS = 10
"""Of learning the lists; more time here saves little when searching."""
_HNSW_LINKS = 32
_HNSW_BUILD_EFFORT = 200

Float32 = NDArray[np.float32]
Kind = Literal["flat", "ivf", "hnsw"]


class BuiltIndex(NamedTuple):
    """An index that looks hard enough, as far as it can."""

    faiss_index: faiss.Index
    recall: float
    """Share of the exact K nearest items that it finds, on average over the user vectors."""


def build_index(items_ID: Float32, users_QD: Float32, keep: int, config: IndexConfig) -> BuiltIndex:
    """Index items for the largest inner products.

    The effort of a search (lists looked into, candidates held) is the least that reaches the
    recall asked for, and is stored in the index. Where all of it does not, `auto` goes back to
    comparing with every item.

    Args:
        items_ID: vectors of the items.
        users_QD: user vectors to measure recall with.
        keep: K.
        config: the kind of index, and the recall it shall have.
    """
    exact = _flat(items_ID)
    kind = choose_kind(config.kind, len(items_ID))
    if kind == "flat":
        return BuiltIndex(exact, 1.0)
    K = min(keep, len(items_ID))
    _, nearest_QK = exact.search(users_QD, K)
    index, set_effort, most = (
        _inverted_lists(items_ID) if kind == "ivf" else _small_world(items_ID, K)
    )

    def recall_at(effort: int) -> float:
        set_effort(effort)
        _, found_QK = index.search(users_QD, K)
        shares = [len(np.intersect1d(*pair)) / K for pair in zip(found_QK, nearest_QK, strict=True)]
        return float(np.mean(shares))

    recall = recall_at(least_effort(recall_at, most, config.recall))
    if config.kind == "auto" and recall < config.recall:
        return BuiltIndex(exact, 1.0)
    return BuiltIndex(index, recall)


def choose_kind(kind: Literal["auto", "flat", "ivf", "hnsw"], items: int) -> Kind:
    """The kind of index that a setting means for so many items.

    >>> choose_kind("auto", 100_000), choose_kind("auto", 100_001), choose_kind("hnsw", 5)
    ('flat', 'ivf', 'hnsw')
    """
    if kind == "auto":
        return "flat" if items <= FLAT_ITEMS else "ivf"
    return kind


def least_effort(recall_at: Callable[[int], float], most: int, wanted: float) -> int:
    """The least effort from 1 to `most` that reaches the recall, `most` if none does.

    Args:
        recall_at: recall of an effort; more effort finds no less.
        most: at least 1.
        wanted: recall, 0 to 1.

    >>> least_effort(lambda effort: effort / 10, 10, 0.65), least_effort(lambda _: 0.5, 10, 0.9)
    (7, 10)
    """
    least = 1
    while least < most:
        middle = (least + most) // 2
        if recall_at(middle) >= wanted:
            most = middle
        else:
            least = middle + 1
    return least


def _flat(items_ID: Float32) -> faiss.Index:
    index = faiss.IndexFlatIP(items_ID.shape[1])
    index.add(items_ID)
    return index


def _inverted_lists(items_ID: Float32) -> tuple[faiss.Index, Callable[[int], None], int]:
    """Lists of similar items, their vectors in bytes; the effort is how many lists are read."""
    items, width = items_ID.shape
    lists = max(1, min(round(4 * items**0.5), items // _POINTS_PER_LIST))
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter, index.cp.max_points_per_centroid = _ROUNDS, _MOST_POINTS_PER_LIST
    index.cp.min_points_per_centroid = 1  # so that FAISS does not warn of fewer
    index.train(items_ID)
    index.add(items_ID)

    def set_effort(effort: int) -> None:
        index.nprobe = effort

    return index, set_effort, lists


def _small_world(items_ID: Float32, keep: int) -> tuple[faiss.Index, Callable[[int], None], int]:
    """A graph of near items; the effort is how many candidates a walk through it holds."""
    items, width = items_ID.shape
    index = faiss.IndexHNSWFlat(width, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _HNSW_BUILD_EFFORT
    index.add(items_ID)

    def set_effort(effort: int) -> None:
        index.hnsw.efSearch = effort

    return index, set_effort, min(items, 32 * keep)
