from pathlib import Path
from random import Random

import faiss
import numpy as np
import pytest
import torch

from serving.cascade.items import Items
from serving.cascade.policy import Policy
from serving.cascade.recall.index import Index
from serving.cascade.recall.recall import FAILED, FILLED, FRESH, HISTORY, INDEX, POPULAR, Recall
from serving.cascade.recall.recalled import Float32, Recalled, RecallQuery
from tests.serving.world import N_ITEMS, item_embeddings, write_tiny_bundle
from training.bundle import read_items
from training.features import Int64

RED = np.array([1, 0, 1], dtype=np.float32)
NOBODY = np.empty(0, dtype=np.int64)
TINY = Policy(bundle="tiny")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    path = Path(tmp_path_factory.mktemp("recall")) / "tiny"
    return Items(read_items(write_tiny_bundle(path)), {})


def recall(items: Items, index: faiss.Index, keep: int = 4, history: int = 2) -> Recall:
    module = torch.jit.ScriptModule()
    return Recall(
        module,
        Index(index),
        item_embeddings(),
        items,
        keep=keep,
        history_candidates=history,
        device=torch.device("cpu"),
    )


def ask(
    stage: Recall,
    user: Float32,
    history: Int64,
    excluded: Int64,
    num: int,
    policy: Policy = TINY,
) -> Recalled:
    query = RecallQuery(history, excluded, num, policy)
    [found] = stage.candidates(user[None, :], [query])
    return found


def flat() -> faiss.Index:
    index = faiss.IndexFlatIP(3)
    index.add(item_embeddings())
    return index


def test_nearest_and_own_items_in_order_of_score(items: Items) -> None:
    stage = recall(items, flat())
    history = np.array([0, 40, 1, 40, 38, 36], dtype=np.int64)  # newest first, 0 is unknown
    found = ask(stage, RED, history, NOBODY, 1)
    # 3 is not available, 1 is recalled anyway, and two distinct known ones of the history join.
    assert found.rows_N.tolist() == [1, 5, 7, 9, 40]
    assert found.degraded == ()
    np.testing.assert_allclose(found.scores_N, item_embeddings()[found.rows_N - 1] @ RED)


def test_places_of_forbidden_items_go_to_the_next_best(items: Items) -> None:
    stage = recall(items, flat())
    forbidden = np.array([0, *range(1, 36)], dtype=np.int64)
    found = ask(stage, RED, np.array([1, 2, 40]), forbidden, 1)
    assert found.rows_N.tolist() == [37, 39, 36, 38, 40]


def test_index_that_returns_too_few_is_filled_with_popular_items(items: Items) -> None:
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(3), 3, 2, faiss.METRIC_INNER_PRODUCT)
    index.train(item_embeddings())
    index.add(item_embeddings())
    index.nprobe = 1  # finds only one colour: 20 items, one of them not available
    stage = recall(items, index)
    found = ask(stage, RED, np.array([1]), NOBODY, 25)
    red = [row for row in range(1, N_ITEMS, 2) if row != 3]
    assert sorted(found.rows_N.tolist()) == sorted([*red, 2, 4, 6, 8, 10, 12])
    assert found.degraded == (FILLED,)


def test_user_vector_that_is_not_finite(items: Items) -> None:
    stage = recall(items, flat())
    broken = np.array([np.nan, 0, 0], dtype=np.float32)
    found = ask(stage, broken, np.array([40, 39]), NOBODY, 1)
    assert found.rows_N.tolist() == [40, 39, 1, 2]
    assert found.sources_N.tolist() == [1 << HISTORY] * 2 + [1 << POPULAR] * 2
    assert found.scores_N.tolist() == [0, 0, 0, 0]
    assert found.degraded == (FAILED,)


def test_dropped_items_are_drawn_uniformly_and_repeatably(items: Items) -> None:
    stage = recall(items, flat())
    excluded = np.array([1, 2])
    kept = np.arange(4, 21)
    rng = Random(5)
    draws = [stage.sample_dropped(rng, kept, excluded, 10).tolist() for _ in range(2000)]
    assert all(len(set(draw)) == 10 for draw in draws)
    counts = np.bincount(np.concatenate(draws), minlength=N_ITEMS + 1)
    assert set(np.flatnonzero(counts)) == set(range(21, 41))
    assert abs(counts[21:] / 2000 - 0.5).max() < 0.05
    again = stage.sample_dropped(Random(5), kept, excluded, 10).tolist()
    assert again == draws[0]


def test_each_source_gives_its_quota_and_is_named(items: Items) -> None:
    policy = Policy(bundle="tiny", recall_keep=3, history_candidates=1, popular_candidates=4)
    found = ask(recall(items, flat()), RED, np.array([0, 40, 38]), np.array([2]), 1, policy)
    by_row = dict(zip(found.rows_N.tolist(), found.sources_N.tolist(), strict=True))
    both = 1 << INDEX | 1 << POPULAR
    popular = 1 << POPULAR
    assert by_row == {1: both, 5: both, 7: 1 << INDEX, 4: popular, 6: popular, 40: 1 << HISTORY}
    assert Recall.sources[FRESH] == "fresh"


def test_newcomer_gets_popular_items_in_the_places_of_a_history(items: Items) -> None:
    stage = recall(items, flat(), keep=2, history=3)
    found = ask(stage, RED, np.array([0, 0]), NOBODY, 1)
    assert found.rows_N.tolist() == [1, 5, 2, 4]
    assert (found.sources_N >> POPULAR & 1).tolist() == [1, 0, 1, 1]


def test_requests_of_a_batch_do_not_touch_each_other(items: Items) -> None:
    stage = recall(items, flat())
    users = np.stack([RED, np.array([np.nan, 0, 0], dtype=np.float32), RED[[1, 0, 2]]])
    queries = [
        RecallQuery(np.array([40]), np.array([1, 5]), 1, TINY),
        RecallQuery(np.array([39]), np.array([2]), 3, TINY),
        RecallQuery(np.array([0]), NOBODY, 8, Policy(bundle="tiny", recall_keep=1)),
    ]
    together = stage.candidates(users, queries)
    for user, query, found in zip(users, queries, together, strict=True):
        [alone] = stage.candidates(user[None, :], [query])
        assert found.rows_N.tolist() == alone.rows_N.tolist()
        assert found.sources_N.tolist() == alone.sources_N.tolist()
        assert found.degraded == alone.degraded
    assert together[0].rows_N.tolist() == [7, 9, 11, 13, 40]


def test_popular_items_alone(items: Items) -> None:
    query = RecallQuery(NOBODY, np.array([1, 4]), 3, TINY)
    found = recall(items, flat()).popular(query)
    assert found.rows_N.tolist() == [2, 5, 6]
    assert found.sources_N.tolist() == [1 << POPULAR] * 3


def test_nothing_is_drawn_where_nothing_is_left(items: Items) -> None:
    stage = recall(items, flat())
    drawn = stage.sample_dropped(Random(1), np.arange(1, 40), NOBODY, 5)
    assert drawn.tolist() == [40]
