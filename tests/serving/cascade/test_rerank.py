"""The last order: values, caps, and what holds for every answer."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.cascade.shop import (
    Shop,
    policies,
    quick,
    seeds,
)

ALL_RULES: dict[str, Any] = {
    "pins": (
        {"name": "launch", "item": "i1", "position": 2},
        {"name": "late", "item": "i2", "position": 2},
    ),
    "boosts": ({"name": "sale", "factor": 1.5, "fields": {"colour": ("red",)}},),
    "caps": ({"name": "colours", "field": "colour", "most": 4},),
    "blocks": ({"name": "recall", "items": ("i3", "i4")},),
}


def test_without_any_wish_the_order_and_the_scores_are_the_rankers() -> None:
    world = Shop()
    answer = world.order(num=7)
    assert answer.rows_K.tolist() == world.rows[:7].tolist()
    assert answer.scores_K.tolist() == world.scores[:7].tolist()
    assert answer.rules_K == ((),) * 7
    assert answer.degraded == ()


@quick
@given(seeds, policies(), st.integers(1, 40), st.booleans())
def test_candidates_at_most_num_and_each_once_in_any_order_of_the_candidates(
    seed: int, policy: dict[str, Any], num: int, ruled: bool
) -> None:
    world = Shop(seed, **(ALL_RULES if ruled else {}))
    answer = world.order(num, policy)
    rows = answer.rows_K.tolist()
    possible = set(world.rows.tolist()) | ({1, 2} if ruled else set())
    possible -= {3, 4} if ruled else set()
    assert set(rows) <= possible
    # A pinned item that is no candidate comes only where its place exists.
    least = len(possible & set(world.rows.tolist()))
    assert min(num, least) <= len(rows) == len(set(rows)) <= num
    assert len(answer.scores_K) == len(answer.rules_K) == len(rows)
    assert np.isfinite(answer.scores_K).all()
    shuffled = np.random.default_rng(seed).permutation(len(world.rows))
    again = world.order(num, policy, rows=world.rows[shuffled], scores=world.scores[shuffled])
    assert again.rows_K.tolist() == rows
    assert again.rules_K == answer.rules_K


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # p is 0.5, 0.25 and 0.1; prices are 1, 3 and 8.
        (1, 0, [1, 2, 3]),  # .5, .25, .1
        (1, 1, [3, 2, 1]),  # .5 * 1, .25 * 3, .1 * 8
        (2, 1, [1, 2, 3]),  # .25 * 1, .0625 * 3, .01 * 8
        (1, 0.7, [2, 1, 3]),  # .5, .25 * 3^.7 = .54, .1 * 8^.7 = .43
        (0, 1, [3, 2, 1]),
        (0, 0, [1, 2, 3]),
    ],
)
def test_exponents_shift_the_order(a: float, b: float, expected: list[int]) -> None:
    world = Shop()
    p = np.array([0.5, 0.25, 0.1])
    price = np.array([1, 3, 8])
    world.items.price_micros_R[1:4] = price * 1_000_000
    answer = world.order(
        policy={"probability_exponent": a, "price_exponent": b},
        rows=np.array([1, 2, 3]),
        scores=np.log(p / (1 - p)).astype(np.float32),
    )
    assert answer.rows_K.tolist() == expected
    if (a, b) != (1, 0):
        values = p**a * price**b
        np.testing.assert_allclose(answer.scores_K, np.log(values[answer.rows_K - 1]), atol=1e-5)


def test_an_item_without_a_price_counts_with_the_median_price() -> None:
    world = Shop()
    world.items.price_micros_R[1:6] = [1_000_000, 0, 5_000_000, 0, 2_000_000]
    same = np.zeros(5, dtype=np.float32)
    answer = world.order(policy={"price_exponent": 1}, rows=np.arange(1, 6), scores=same)
    assert answer.rows_K.tolist() == [3, 2, 4, 5, 1]
    np.testing.assert_allclose(np.exp(answer.scores_K), np.array([5, 2, 2, 2, 1]) / 2, rtol=1e-6)
    world.items.price_micros_R[1:6] = 0
    answer = world.order(policy={"price_exponent": 1}, rows=np.arange(1, 6), scores=same)
    assert answer.rows_K.tolist() == [1, 2, 3, 4, 5]


def test_extreme_logits_keep_their_order_and_stay_finite() -> None:
    world = Shop()
    world.items.price_micros_R[:] = 1_000_000
    scores = np.array([3e38, 1001, 1000, 0, -1000, -3e38], dtype=np.float32)
    answer = world.order(policy={"price_exponent": 1}, rows=np.arange(1, 7), scores=scores)
    assert answer.rows_K.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(answer.scores_K).all()


def test_scores_that_are_no_logits_are_neither_multiplied_nor_diversified() -> None:
    world = Shop()
    policy = {"price_exponent": 5, "diversity": "dpp", "diversity_strength": 1}
    answer = world.order(policy=policy, ranked=False)
    assert answer.rows_K.tolist() == world.rows[:10].tolist()
    capped = world.order(policy={**policy, "cap_field": "colour", "cap": 1}, ranked=False)
    assert capped.rows_K.tolist() != world.rows[:10].tolist()


@quick
@given(seeds, st.sampled_from(["none", "mmr", "dpp"]), st.integers(1, 5), st.integers(1, 25))
def test_caps_hold_where_they_can_and_say_where_they_cannot(
    seed: int, kind: str, cap: int, num: int
) -> None:
    world = Shop(seed)
    policy = {"diversity": kind, "cap_field": "colour", "cap": cap}
    answer = world.order(num, policy)
    assert len(answer.rows_K) == num
    of_kind = Counter(world.colours[world.rows].tolist())
    fitting = sum(n if colour == 0 else min(n, cap) for colour, n in of_kind.items())
    shown = Counter(world.colours[answer.rows_K].tolist())
    shown.pop(0, None)  # of an unknown colour
    if fitting >= num:
        assert max(shown.values(), default=0) <= cap
        assert answer.degraded == ()
    else:
        assert answer.degraded == ("cap_broken:policy",)
        too_many = sum(max(n - cap, 0) for n in shown.values())
        assert too_many == num - fitting
        assert sum("cap_broken:policy" in rules for rules in answer.rules_K) == too_many


def test_a_cap_on_a_field_the_bundle_lacks_is_told() -> None:
    answer = Shop().order(policy={"cap_field": "brand", "cap": 1})
    assert answer.degraded == ("cap_unknown:brand",)
    assert len(answer.rows_K) == 10
