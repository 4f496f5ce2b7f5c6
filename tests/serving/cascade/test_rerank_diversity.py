"""Diversity of the last order, against its definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.cascade.rerank.dpp import RIDGE
from tests.serving.cascade.shop import Float32, Shop, quick, seeds


@quick
@given(seeds, st.sampled_from(["mmr", "dpp"]), st.sampled_from([0.0, 1.0]))
def test_diversity_of_strength_0_is_the_order_of_value(seed: int, kind: str, price: float) -> None:
    world = Shop(seed)
    plain = world.order(policy={"price_exponent": price})
    # So small a strength decides nothing, but chooses greedily.
    policy = {"diversity": kind, "diversity_strength": 1e-12, "price_exponent": price}
    assert world.order(policy=policy).rows_K.tolist() == plain.rows_K.tolist()
    policy["diversity_strength"] = 0.0
    assert world.order(policy=policy).rows_K.tolist() == plain.rows_K.tolist()


def cosines(vectors: Float32) -> NDArray[np.float64]:
    units = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(units @ units.T, dtype=np.float64)


def stretched(scores: Float32) -> NDArray[np.float64]:
    wide = scores.astype(np.float64)
    return np.asarray((wide - wide.min()) / (wide.max() - wide.min()), dtype=np.float64)


@quick
@given(seeds, st.floats(0.05, 1))
def test_mmr_is_the_greedy_maximum_of_its_definition(seed: int, strength: float) -> None:
    world = Shop(seed)
    alike, relevance = cosines(world.vectors[world.rows]), stretched(world.scores)
    chosen: list[int] = []
    for _ in range(8):
        rest = [n for n in range(len(world.rows)) if n not in chosen]
        gains = [
            (1 - strength) * relevance[n]
            - strength * (max(alike[n, c] for c in chosen) if chosen else 0)
            for n in rest
        ]
        chosen.append(rest[int(np.argmax(gains))])
    answer = world.order(8, {"diversity": "mmr", "diversity_strength": strength})
    assert answer.rows_K.tolist() == world.rows[chosen].tolist()


@quick
@given(seeds, st.floats(0.05, 0.95))
def test_dpp_is_the_greedy_maximum_of_the_determinant(seed: int, strength: float) -> None:
    world = Shop(seed)
    kernel = (1 + cosines(world.vectors[world.rows])) / 2 + RIDGE * np.eye(len(world.rows))
    # The determinant of diag(q) S diag(q), q = exp(alpha r), alpha = theta / (2 (1 - theta)).
    quality = np.exp((1 - strength) / (2 * strength) * stretched(world.scores))
    kernel = quality[:, None] * kernel * quality[None, :]
    chosen: list[int] = []
    # More than the vectors are wide, so that the ridge decides at the end.
    for _ in range(8):
        rest = [n for n in range(len(world.rows)) if n not in chosen]
        sets = [np.ix_([*chosen, n], [*chosen, n]) for n in rest]
        chosen.append(rest[int(np.argmax([np.linalg.slogdet(kernel[s])[1] for s in sets]))])
    answer = world.order(8, {"diversity": "dpp", "diversity_strength": strength})
    assert answer.rows_K.tolist() == world.rows[chosen].tolist()


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_a_copy_of_a_shown_item_comes_after_a_different_one(kind: str) -> None:
    world = Shop()
    world.vectors[[1, 2, 3]] = [[1, 0, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0]]
    scores = np.array([1.0, 0.9, 0.0], dtype=np.float32)
    policy = {"diversity": kind, "diversity_strength": 0.9}
    answer = world.order(policy=policy, rows=np.array([1, 2, 3]), scores=scores)
    assert answer.rows_K.tolist() == [1, 3, 2]
    assert answer.rules_K == ((), (kind,), ())


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_vectors_without_direction_are_like_no_other(kind: str) -> None:
    world = Shop()
    world.vectors[:] = [1, 0, 0, 0]
    world.vectors[3] = 0
    world.vectors[4] = np.nan
    policy = {"diversity": kind, "diversity_strength": 0.99}
    rows, scores = np.arange(1, 7), np.linspace(1, 0, 6, dtype=np.float32)
    answer = world.order(6, policy, rows=rows, scores=scores)
    assert answer.rows_K.tolist()[:3] == [1, 3, 4]
    assert sorted(answer.rows_K.tolist()) == rows.tolist()


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_items_differ_from_the_pinned_one(kind: str) -> None:
    world = Shop(pins=({"name": "launch", "item": "i1", "position": 2},))
    world.vectors[[1, 2, 3]] = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    scores = np.array([1.0, 0.9], dtype=np.float32)
    policy = {"diversity": kind, "diversity_strength": 0.9}
    answer = world.order(3, policy, rows=np.array([2, 3]), scores=scores)
    assert world.names(answer) == ["i3", "i2", "i1"]
