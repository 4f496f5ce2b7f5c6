"""Indices against comparing with every item."""

import faiss
import numpy as np
import pytest

from training.config import IndexConfig
from training.index import Float32, build_index, choose_kind, least_effort

ITEMS, WIDTH, KEEP = 4000, 12, 50


def _vectors(seed: int, rows: int) -> Float32:
    """Vectors around thirty centres, as towers make them."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(30, WIDTH))
    near = centres[draw.integers(0, 30, rows)] + 0.5 * draw.normal(size=(rows, WIDTH))
    return near.astype(np.float32)


@pytest.fixture(scope="module")
def items() -> Float32:
    return _vectors(1, ITEMS)


@pytest.fixture(scope="module")
def users() -> Float32:
    return _vectors(2, 64)


def _recall(index: faiss.Index, items: Float32, users: Float32) -> float:
    exact = np.argsort(-(users @ items.T), axis=1)[:, :KEEP]
    _, found = index.search(users, KEEP)
    return float(np.mean([len(set(a) & set(b)) / KEEP for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize(
    ("kind", "made"),
    [("ivf", faiss.IndexIVFScalarQuantizer), ("hnsw", faiss.IndexHNSWFlat)],
)
def test_looks_just_hard_enough(
    items: Float32, users: Float32, kind: str, made: type[faiss.Index]
) -> None:
    config = IndexConfig.model_validate({"kind": kind, "recall": 0.95})
    built = build_index(items, users, KEEP, config)
    read = faiss.deserialize_index(faiss.serialize_index(built.faiss_index))
    assert isinstance(read, made)
    assert _recall(read, items, users) == pytest.approx(built.recall, abs=1e-9)
    assert 0.95 <= built.recall < 1
    if isinstance(read, faiss.IndexIVF):
        assert 1 < read.nprobe < read.nlist
        read.nprobe -= 1
        assert _recall(read, items, users) < 0.95


@pytest.mark.parametrize("kind", ["auto", "flat"])
def test_few_items_are_compared_with_one_by_one(items: Float32, users: Float32, kind: str) -> None:
    built = build_index(items, users, KEEP, IndexConfig.model_validate({"kind": kind}))
    assert isinstance(built.faiss_index, faiss.IndexFlatIP)
    assert built.recall == _recall(built.faiss_index, items, users) == 1.0


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_small_data_is_indexed_quietly(
    users: Float32, kind: str, rows: int, capfd: pytest.CaptureFixture[str]
) -> None:
    built = build_index(
        _vectors(3, rows), users, KEEP, IndexConfig.model_validate({"kind": kind, "recall": 0.9})
    )
    assert built.faiss_index.ntotal == rows
    assert built.recall >= 0.9
    assert capfd.readouterr() == ("", "")


def test_recall_out_of_reach_is_said_and_auto_then_compares_with_every_item(
    items: Float32, users: Float32, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = items.copy()
    coarse[0] = 1e4  # bytes cannot tell the others apart
    built = build_index(coarse, users, KEEP, IndexConfig(kind="ivf", recall=0.999))
    assert built.recall < 0.999
    assert isinstance(built.faiss_index, faiss.IndexIVF)
    assert built.faiss_index.nprobe == built.faiss_index.nlist
    monkeypatch.setattr("training.index.FLAT_ITEMS", ITEMS - 1)
    assert choose_kind("auto", ITEMS) == "ivf"
    built = build_index(coarse, users, KEEP, IndexConfig(recall=0.999))
    assert isinstance(built.faiss_index, faiss.IndexFlatIP)
    assert built.recall == 1.0


@pytest.mark.parametrize("reached_at", [1, 2, 37, 100])
def test_least_effort(reached_at: int) -> None:
    asked: list[int] = []

    def recall_at(effort: int) -> float:
        asked.append(effort)
        return float(effort >= reached_at)

    assert least_effort(recall_at, 100, 0.5) == reached_at
    assert len(asked) <= 8
