"""Laws of recall over random worlds, indexes, quotas, and items that change in between.

Legend: D width, I items of the bundle, N rows, R rows.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray

from serving.cascade.items import Items, ItemValues
from serving.cascade.policy import Policy
from serving.cascade.recall.index import Index
from serving.cascade.recall.recall import FILLED, FRESH, HISTORY, INDEX, POPULAR, Recall
from serving.cascade.recall.recalled import Float32, Recalled, RecallQuery
from training.bundle import ItemTable
from training.features import Int64, ItemIndex

D = 4
SPARE_ROWS = 6
KEEP, HISTORY_CANDIDATES = 7, 3
KINDS = ("flat", "ivf", "hnsw")


def build(kind: str, vectors_ID: Float32) -> faiss.Index:
    if kind == "flat":
        index: faiss.Index = faiss.IndexFlatIP(D)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(D, 32, faiss.METRIC_INNER_PRODUCT)
    else:
        nlist = min(4, len(vectors_ID))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(D), D, nlist, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.train(vectors_ID)
    index.add(vectors_ID)
    return index


@dataclass
class World:
    """A recall, and what must be true of it, kept in the plainest way."""

    items: Items
    recall: Recall
    vectors_RD: Float32
    kind: str

    @classmethod
    def make(cls, rng: np.random.Generator, n_items: int, share: float, kind: str) -> "World":
        vectors_RD = rng.standard_normal((1 + n_items + SPARE_ROWS, D)).astype(np.float32)
        bundled = vectors_RD[1 : n_items + 1].copy()
        table = ItemTable(
            index=ItemIndex([f"i{n}" for n in range(n_items)]),
            price_micros=np.zeros(n_items, dtype=np.int64),
            available=rng.random(n_items) < share,
            popularity=rng.integers(0, 9, n_items).astype(np.float32),
        )
        items = Items(table, {}, SPARE_ROWS)
        recall = Recall(
            torch.jit.ScriptModule(),
            Index(build(kind, bundled)),
            bundled,
            items,
            keep=KEEP,
            history_candidates=HISTORY_CANDIDATES,
            device=torch.device("cpu"),
        )
        return cls(items, recall, vectors_RD, kind)

    def change(self, rng: np.random.Generator) -> None:
        """Put some items: new ones, other vectors, other popularity, other availability."""
        index = self.items.index
        new = int(rng.integers(0, index.spare_rows + 1))
        first = len(index)
        index.add([f"new{first + n}" for n in range(new)])
        known = rng.choice(np.arange(1, first), size=min(8, first - 1), replace=False)
        rows = np.concatenate([known, np.arange(first, first + new)])
        before = self.items.values(rows)
        revalued = rows[(rng.random(len(rows)) < 0.5) | (rows >= first)]
        self.vectors_RD[revalued] = rng.standard_normal((len(revalued), D))
        popularity = before.popularity_N.copy()
        popularity[np.isin(rows, revalued)] = rng.integers(0, 9, len(revalued))
        values = ItemValues(
            available_N=rng.random(len(rows)) < 0.6,
            price_micros_N=before.price_micros_N,
            popularity_N=popularity,
            fields_NF=before.fields_NF,
            put_us_N=rng.integers(1, 1000, len(rows)),
        )
        self.items.write(rows, values)
        self.recall.put(rows, self.vectors_RD[revalued], revalued)

    def query(self, rng: np.random.Generator) -> RecallQuery:
        def rows(most: int) -> Int64:
            return rng.integers(0, len(self.items.index), int(rng.integers(0, most)))

        def quota() -> int | None:
            return None if rng.random() < 0.3 else int(rng.integers(0, 9))

        policy = Policy(
            bundle="b",
            recall_keep=1 + (quota() or 0),
            history_candidates=quota(),
            popular_candidates=quota() or 0,
            fresh_candidates=quota() or 0,
        )
        return RecallQuery(rows(12), rows(12), int(rng.integers(1, 40)), policy)

    def allowed(self, query: RecallQuery) -> NDArray[np.int64]:
        everything = np.flatnonzero(self.items.available_R)
        return everything[~np.isin(everything, query.excluded_rows)]


def expected_sources(world: World, query: RecallQuery, user_D: Float32) -> dict[int, list[int]]:
    """What each source must give, computed from everything there is."""
    allowed = world.allowed(query)
    policy, items = query.policy, world.items
    most = HISTORY_CANDIDATES if policy.history_candidates is None else policy.history_candidates
    own = [row for row in dict.fromkeys(query.history_rows_L.tolist()) if row in allowed]
    newcomer = not query.history_rows_L.any()
    popular = sorted(allowed.tolist(), key=lambda row: (-items.popularity_R[row], row))
    came = [row for row in allowed.tolist() if row >= len(items.index.bundled)]
    nearest = sorted(allowed.tolist(), key=lambda row: -float(world.vectors_RD[row] @ user_D))
    keep = max(policy.recall_keep or KEEP, query.num)
    return {
        INDEX: nearest[:keep],
        HISTORY: own[:most],
        POPULAR: popular[: policy.popular_candidates + (most if newcomer else 0)],
        FRESH: sorted(came, key=lambda row: (-items.put_us_R[row], row))[: policy.fresh_candidates],
    }


def check(world: World, query: RecallQuery, user_D: Float32, found: Recalled) -> None:
    rows, allowed = found.rows_N.tolist(), world.allowed(query).tolist()
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(allowed)
    assert len(rows) >= min(query.num, len(allowed))
    given = {s: {r for r, b in zip(rows, found.sources_N, strict=True) if b >> s & 1}
             for s in range(4)}  # fmt: skip
    assert set().union(*given.values()) == set(rows)
    expected = expected_sources(world, query, user_D)
    assert given[HISTORY] == set(expected[HISTORY])
    assert given[FRESH] == set(expected[FRESH])
    if FILLED in found.degraded:
        assert world.kind != "flat"
        assert len(rows) == min(query.num, len(allowed))
        assert given[POPULAR] >= set(expected[POPULAR])
    else:
        assert given[POPULAR] == set(expected[POPULAR])
    if world.kind == "flat":
        assert given[INDEX] == set(expected[INDEX])
    else:
        assert len(given[INDEX]) <= len(expected[INDEX])
    np.testing.assert_allclose(
        found.scores_N, world.vectors_RD[rows] @ user_D, rtol=1e-5, atol=1e-6
    )
    assert (np.diff(found.scores_N) <= 0).all()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.03, 0.3, 0.9, 1.0]),
    kind=st.sampled_from(KINDS),
)
def test_whatever_is_asked_of_whatever_world(
    seed: int, n_items: int, share: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    world = World.make(rng, n_items, share, kind)
    for changes in range(3):
        if changes:
            world.change(rng)
        queries = [world.query(rng) for _ in range(int(rng.integers(1, 5)))]
        users_BD = rng.standard_normal((len(queries), D)).astype(np.float32)
        found = world.recall.candidates(users_BD, queries)
        for query, user_D, recalled in zip(queries, users_BD, found, strict=True):
            check(world, query, user_D, recalled)
        allowed = world.allowed(queries[0])
        popular = world.recall.popular(queries[0]).rows_N
        assert len(popular) == min(queries[0].num, len(allowed))
        assert set(popular.tolist()) <= set(allowed.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.2, 0.6, 0.97])
def test_filters_cost_no_recall(kind: str, share: float) -> None:
    """A search that looks at everything finds the nearest available items, however few they are."""
    rng = np.random.default_rng(3)
    vectors_ID = rng.standard_normal((2000, D)).astype(np.float32)
    index: Any = build(kind, vectors_ID)
    if kind == "ivf":
        index.nprobe = index.nlist
    table = ItemTable(
        index=ItemIndex([f"i{n}" for n in range(2000)]),
        price_micros=np.zeros(2000, dtype=np.int64),
        available=rng.random(2000) < share,
        popularity=np.zeros(2000, dtype=np.float32),
    )
    items = Items(table, {})
    recall = Recall(
        torch.jit.ScriptModule(), Index(index), vectors_ID, items,
        keep=50, history_candidates=0, device=torch.device("cpu"),
    )  # fmt: skip
    users_BD = rng.standard_normal((8, D)).astype(np.float32)
    query = RecallQuery(np.zeros(1, dtype=np.int64), np.arange(1, 30), 1, Policy(bundle="b"))
    hits = []
    for user_D, found in zip(users_BD, recall.candidates(users_BD, [query] * 8), strict=True):
        allowed = np.flatnonzero(items.available_R)
        allowed = allowed[allowed >= 30]
        best = allowed[np.argsort(-(vectors_ID[allowed - 1] @ user_D))][:50]
        hits.append(len(np.intersect1d(best, found.rows_N)) / 50)
    assert np.mean(hits) == 1.0 if kind != "hnsw" else np.mean(hits) > 0.95
