from pathlib import Path
from random import Random

import faiss
import numpy as np
import pytest
import torch

from serving.cascade.items import Items
from serving.cascade.policy import Policy
from serving.cascade.recall.recall import FAILED, FILLED, Recall
from serving.cascade.recall.recalled import Float32, Recalled, RecallQuery
from tests.serving.world import N_ITEMS, item_embeddings, write_tiny_bundle
from training.bundle import read_items
from training.features import Int64

RED = np.array([1, 0, 1], dtype=np.float32)
NOBODY = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    path = Path(tmp_path_factory.mktemp("recall")) / "tiny"
    return Items(read_items(write_tiny_bundle(path)), {})


def recall(items: Items, index: faiss.Index, keep: int = 4, history: int = 2) -> Recall:
    module = torch.jit.ScriptModule()
    return Recall(
        module,
        index,
        item_embeddings(),
        items,
        keep=keep,
        history_candidates=history,
        device=torch.device("cpu"),
    )


def ask(stage: Recall, user: Float32, history: Int64, excluded: Int64, num: int) -> Recalled:
    query = RecallQuery(history, excluded, num, Policy(bundle="tiny"))
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
    found = ask(stage, RED, NOBODY, NOBODY, 25)
    red = [row for row in range(1, N_ITEMS, 2) if row != 3]
    assert sorted(found.rows_N.tolist()) == sorted([*red, 2, 4, 6, 8, 10, 12])
    assert found.degraded == (FILLED,)


def test_user_vector_that_is_not_finite(items: Items) -> None:
    stage = recall(items, flat())
    broken = np.array([np.nan, 0, 0], dtype=np.float32)
    found = ask(stage, broken, np.array([40, 39]), NOBODY, 1)
    assert found.rows_N.tolist() == [39, 40, 1, 2]
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
