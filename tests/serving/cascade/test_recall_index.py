"""The bundle's index, and searches that leave rows out. Legend: D width, I items, B requests."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from serving.cascade.items import Items
from serving.cascade.recall.index import Index, read_index
from serving.cascade.recall.nearest import Nearest
from serving.cascade.recall.vectors import Vectors
from training.bundle import ItemTable
from training.features import Int64, ItemIndex

N_ITEMS, D, K = 1000, 8, 20

RNG = np.random.default_rng(11)
VECTORS_ID = RNG.standard_normal((N_ITEMS, D)).astype(np.float32)
USERS_BD = RNG.standard_normal((5, D)).astype(np.float32)


def flat() -> faiss.Index:
    index = faiss.IndexFlatIP(D)
    index.add(VECTORS_ID)
    return index


def items(available_I: NDArray[np.bool_]) -> Items:
    table = ItemTable(
        index=ItemIndex([f"i{n}" for n in range(N_ITEMS)]),
        price_micros=np.zeros(N_ITEMS, dtype=np.int64),
        available=available_I,
        popularity=np.zeros(N_ITEMS, dtype=np.float32),
    )
    return Items(table, {})


def exact(available_I: NDArray[np.bool_]) -> Int64:
    scores_BI = np.where(available_I, USERS_BD @ VECTORS_ID.T, -np.inf)
    best: Int64 = np.argsort(-scores_BI, axis=1)[:, :K] + 1
    return best


def found(nearest: Nearest) -> list[list[int]]:
    return [[row for row in rows if row][:K] for rows in nearest.search(USERS_BD, K).tolist()]


@pytest.mark.parametrize("n_hidden", [0, 3, 500, 880, 950])
@pytest.mark.parametrize("asks_for_more", [False, True])
def test_the_best_open_rows_whatever_is_hidden(n_hidden: int, asks_for_more: bool) -> None:
    index = Index(flat())
    index.on_gpu = asks_for_more  # which filters nothing
    available_I = np.ones(N_ITEMS, dtype=np.bool_)
    available_I[np.argsort(-(VECTORS_ID @ USERS_BD[0]))[:n_hidden]] = False
    nearest = Nearest(index, Vectors(VECTORS_ID, N_ITEMS + 1), items(available_I))
    assert found(nearest) == exact(available_I).tolist()


@pytest.mark.parametrize(("one_in", "nprobe"), [(4, 4), (20, 1)])
def test_inverted_lists_do_not_miss_what_is_open(one_in: int, nprobe: int) -> None:
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatIP(D), D, 16, faiss.METRIC_INNER_PRODUCT)
    index.train(VECTORS_ID)
    index.add(VECTORS_ID)
    index.nprobe = nprobe
    available_I = np.arange(N_ITEMS) % one_in == 0
    nearest = Nearest(Index(index), Vectors(VECTORS_ID, N_ITEMS + 1), items(available_I))
    # Where a quarter is open, four times as many lists are looked at: all of them. Where it is a
    # twentieth, all that is open is compared.
    assert found(nearest) == exact(available_I).tolist()


def test_index_is_mapped_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    faiss.write_index(flat(), str(path))
    index = read_index(path, torch.device("cpu"))
    assert index.size == index.most == N_ITEMS
    _, positions = index.search(USERS_BD, K)
    everything = np.ones(N_ITEMS, dtype=np.bool_)
    assert (positions + 1).tolist() == exact(everything).tolist()
    with Path("/proc/self/maps").open() as maps:
        assert any(str(path) in line for line in maps)


@pytest.mark.gpu
@pytest.mark.skipif(not faiss.get_num_gpus(), reason="needs a GPU and a FAISS that can use it")
@pytest.mark.parametrize("n_hidden", [0, 3, 500])
def test_index_on_a_gpu(tmp_path: Path, n_hidden: int) -> None:
    path = tmp_path / "index.faiss"
    faiss.write_index(flat(), str(path))
    index = read_index(path, torch.device("cuda"))
    assert index.on_gpu
    available_I = np.arange(N_ITEMS) >= n_hidden
    nearest = Nearest(index, Vectors(VECTORS_ID, N_ITEMS + 1), items(available_I))
    assert found(nearest) == exact(available_I).tolist()
