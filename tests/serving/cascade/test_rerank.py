"""Laws of the last order."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.cascade.items import Items
from serving.cascade.policy import Policy
from serving.cascade.rerank.dpp import RIDGE
from serving.cascade.rerank.reranked import Reranked
from serving.cascade.rerank.reranker import Reranker
from serving.cascade.rerank.rulebook import Rulebook
from serving.cascade.rerank.rules import Rules
from training.bundle import ItemTable
from training.features import CategoricalField, Int64, ItemIndex

N = 30
COLOURS = ("red", "blue", "green")
MIDNIGHT_US = 1_772_323_200_000_000
"""2026-03-01T00:00:00Z"""

Float32 = NDArray[np.float32]

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 2**32 - 1)


class Shop:
    """Items i1 to i30 with random colours, prices and vectors, and a reranker of them."""

    def __init__(self, folder: Path, seed: int = 0, **rules: Any) -> None:  # noqa: ANN401
        rng = np.random.default_rng(seed)
        table = ItemTable(
            index=ItemIndex([f"i{n}" for n in range(1, N + 1)]),
            price_micros=rng.integers(1, 100, N) * 1_000_000,
            available=np.ones(N, dtype=np.bool_),
            popularity=np.zeros(N, dtype=np.float32),
        )
        self.colours = np.concatenate([[0], rng.integers(0, len(COLOURS) + 1, N)])
        self.items = Items(table, {"colour": self.colours})
        self.vectors = rng.normal(size=(N + 1, 4)).astype(np.float32)
        self.rulebook = Rulebook(folder / "rules.toml", lambda _: None)
        self.rulebook.rules = Rules.model_validate(rules)
        field = CategoricalField(name="colour", vocabulary=COLOURS)
        self.reranker = Reranker("tiny", self.items, (field,), self.look_up, self.rulebook)
        self.rows = rng.permutation(N).astype(np.int64)[:25] + 1
        self.scores = np.sort(rng.normal(size=25).astype(np.float32))[::-1].copy()

    def look_up(self, rows_N: Int64) -> Float32:
        return self.vectors[rows_N]

    def order(
        self,
        num: int = 10,
        policy: dict[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Reranked:
        return self.reranker.order(
            options.pop("rows", self.rows),
            options.pop("scores", self.scores),
            num=num,
            policy=Policy(bundle="tiny", **(policy or {})),
            ruling=self.reranker.ruling(options.pop("context", {}), MIDNIGHT_US),
            **options,
        )

    def names(self, answer: Reranked) -> list[str]:
        return list(self.items.item_ids(answer.rows_K))


MakeShop = Callable[..., Shop]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> MakeShop:
    folder = tmp_path_factory.mktemp("shop")

    def make(seed: int = 0, **rules: Any) -> Shop:  # noqa: ANN401
        return Shop(folder, seed, **rules)

    return make


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "probability_exponent": draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])),
        "price_exponent": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "diversity": draw(st.sampled_from(["none", "mmr", "dpp"])),
        "diversity_strength": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
        "cap_field": draw(st.sampled_from(["", "colour"])),
        "cap": draw(st.integers(0, 6)),
    }


ALL_RULES: dict[str, Any] = {
    "pins": (
        {"name": "launch", "item": "i1", "position": 2},
        {"name": "late", "item": "i2", "position": 2},
    ),
    "boosts": ({"name": "sale", "factor": 1.5, "fields": {"colour": ("red",)}},),
    "caps": ({"name": "colours", "field": "colour", "most": 4},),
    "blocks": ({"name": "recall", "items": ("i3", "i4")},),
}


def test_without_any_wish_the_order_and_the_scores_are_the_rankers(shop: MakeShop) -> None:
    world = shop()
    answer = world.order(num=7)
    assert answer.rows_K.tolist() == world.rows[:7].tolist()
    assert answer.scores_K.tolist() == world.scores[:7].tolist()
    assert answer.rules_K == ((),) * 7
    assert answer.degraded == ()


@quick
@given(seeds, policies(), st.integers(1, 40), st.booleans())
def test_candidates_at_most_num_and_each_once_in_any_order_of_the_candidates(
    shop: MakeShop, seed: int, policy: dict[str, Any], num: int, ruled: bool
) -> None:
    world = shop(seed, **(ALL_RULES if ruled else {}))
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
def test_exponents_shift_the_order(shop: MakeShop, a: float, b: float, expected: list[int]) -> None:
    world = shop()
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


def test_an_item_without_a_price_counts_with_the_median_price(shop: MakeShop) -> None:
    world = shop()
    world.items.price_micros_R[1:6] = [1_000_000, 0, 5_000_000, 0, 2_000_000]
    same = np.zeros(5, dtype=np.float32)
    answer = world.order(policy={"price_exponent": 1}, rows=np.arange(1, 6), scores=same)
    assert answer.rows_K.tolist() == [3, 2, 4, 5, 1]
    np.testing.assert_allclose(np.exp(answer.scores_K), np.array([5, 2, 2, 2, 1]) / 2, rtol=1e-6)
    world.items.price_micros_R[1:6] = 0
    answer = world.order(policy={"price_exponent": 1}, rows=np.arange(1, 6), scores=same)
    assert answer.rows_K.tolist() == [1, 2, 3, 4, 5]


def test_extreme_logits_keep_their_order_and_stay_finite(shop: MakeShop) -> None:
    world = shop()
    world.items.price_micros_R[:] = 1_000_000
    scores = np.array([3e38, 1001, 1000, 0, -1000, -3e38], dtype=np.float32)
    answer = world.order(policy={"price_exponent": 1}, rows=np.arange(1, 7), scores=scores)
    assert answer.rows_K.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(answer.scores_K).all()


def test_scores_that_are_no_logits_are_not_multiplied_with_prices(shop: MakeShop) -> None:
    world = shop()
    answer = world.order(policy={"price_exponent": 5}, ranked=False)
    assert answer.rows_K.tolist() == world.rows[:10].tolist()


@quick
@given(seeds, st.sampled_from(["mmr", "dpp"]), st.sampled_from([0.0, 1.0]))
def test_diversity_of_strength_0_is_the_order_of_value(
    shop: MakeShop, seed: int, kind: str, price: float
) -> None:
    world = shop(seed)
    plain = world.order(policy={"price_exponent": price})
    # A cap that never binds sends strength 0 through the greedy choice's neighbours, too.
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
def test_mmr_is_the_greedy_maximum_of_its_definition(
    shop: MakeShop, seed: int, strength: float
) -> None:
    world = shop(seed)
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
def test_dpp_is_the_greedy_maximum_of_the_determinant(
    shop: MakeShop, seed: int, strength: float
) -> None:
    world = shop(seed)
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
def test_a_copy_of_a_shown_item_comes_after_a_different_one(shop: MakeShop, kind: str) -> None:
    world = shop()
    world.vectors[[1, 2, 3]] = [[1, 0, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0]]
    scores = np.array([1.0, 0.9, 0.0], dtype=np.float32)
    policy = {"diversity": kind, "diversity_strength": 0.9}
    answer = world.order(policy=policy, rows=np.array([1, 2, 3]), scores=scores)
    assert answer.rows_K.tolist() == [1, 3, 2]
    assert answer.rules_K == ((), (kind,), ())


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_vectors_without_direction_are_like_no_other(shop: MakeShop, kind: str) -> None:
    world = shop()
    world.vectors[:] = [1, 0, 0, 0]
    world.vectors[3] = 0
    world.vectors[4] = np.nan
    policy = {"diversity": kind, "diversity_strength": 0.99}
    rows, scores = np.arange(1, 7), np.linspace(1, 0, 6, dtype=np.float32)
    answer = world.order(6, policy, rows=rows, scores=scores)
    assert answer.rows_K.tolist()[:3] == [1, 3, 4]
    assert sorted(answer.rows_K.tolist()) == rows.tolist()


@quick
@given(seeds, st.sampled_from(["none", "mmr", "dpp"]), st.integers(1, 5), st.integers(1, 25))
def test_caps_hold_where_they_can_and_say_where_they_cannot(
    shop: MakeShop, seed: int, kind: str, cap: int, num: int
) -> None:
    world = shop(seed)
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


def test_a_cap_on_a_field_the_bundle_lacks_is_told(shop: MakeShop) -> None:
    answer = shop().order(policy={"cap_field": "brand", "cap": 1})
    assert answer.degraded == ("cap_unknown:brand",)
    assert len(answer.rows_K) == 10


@quick
@given(seeds, policies(), st.integers(0, 9), st.integers(1, N))
def test_a_pin_is_at_its_place(
    shop: MakeShop, seed: int, policy: dict[str, Any], position: int, item: int
) -> None:
    world = shop(seed, pins=({"name": "launch", "item": f"i{item}", "position": position},))
    answer = world.order(10, policy)
    assert answer.rows_K[position] == item
    assert answer.rules_K[position] == ("pin:launch",)
    others = [r for r in answer.rows_K.tolist() if r != item]
    assert len(others) == 9
    if policy["diversity"] == "none" and policy["cap_field"] == "":
        unpinned = [r for r in shop(seed).order(25, policy).rows_K.tolist() if r != item]
        assert others == unpinned[:9]


def test_a_pin_that_may_not_be_shown_is_not(shop: MakeShop) -> None:
    pins = ({"name": "launch", "item": "i1", "position": 0},)
    world = shop(pins=pins)
    world.items.available_R[1] = False
    candidates = {"rows": np.arange(2, 12), "scores": np.linspace(1, 0, 10, dtype=np.float32)}
    assert world.names(world.order(2, **candidates)) == ["i2", "i3"]
    world.items.available_R[1] = True
    assert world.names(world.order(2, **candidates)) == ["i1", "i2"]
    assert world.names(world.order(2, excluded_rows=np.array([1]), **candidates)) == ["i2", "i3"]
    blocked = shop(pins=pins, blocks=({"name": "recall", "items": ("i1",)},))
    assert blocked.names(blocked.order(2, **candidates)) == ["i2", "i3"]


def test_pins_that_meet_make_room_for_each_other(shop: MakeShop) -> None:
    world = shop(
        pins=(
            {"name": "first", "item": "i10", "position": 1},
            {"name": "second", "item": "i9", "position": 1},
            {"name": "again", "item": "i10", "position": 0},
            {"name": "outside", "item": "i8", "position": 5},
        )
    )
    candidates = {"rows": np.arange(1, 8), "scores": np.linspace(1, 0, 7, dtype=np.float32)}
    answer = world.order(4, **candidates)
    assert world.names(answer) == ["i1", "i10", "i9", "i2"]
    assert answer.rules_K == ((), ("pin:first",), ("pin:second",), ())
    # What no stage scored has the least of their scores.
    assert answer.scores_K.tolist() == [1, 0, 0, candidates["scores"][1]]
    # Places that nothing is left for close.
    alone = world.order(10, rows=np.array([], dtype=np.int64), scores=np.array([], np.float32))
    assert world.names(alone) == ["i10", "i9", "i8"]
    assert alone.scores_K.tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_items_differ_from_the_pinned_one(shop: MakeShop, kind: str) -> None:
    world = shop(pins=({"name": "launch", "item": "i1", "position": 2},))
    world.vectors[[1, 2, 3]] = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    scores = np.array([1.0, 0.9], dtype=np.float32)
    policy = {"diversity": kind, "diversity_strength": 0.9}
    answer = world.order(3, policy, rows=np.array([2, 3]), scores=scores)
    assert world.names(answer) == ["i3", "i2", "i1"]


@quick
@given(seeds, st.integers(1, N), st.floats(0.01, 100), st.floats(1, 50))
def test_a_greater_boost_never_moves_an_item_down(
    shop: MakeShop, seed: int, item: int, factor: float, more: float
) -> None:
    def position(factor: float) -> int:
        boost = {"name": "sale", "factor": factor, "items": (f"i{item}",)}
        rows = shop(seed, boosts=(boost,)).order(25).rows_K.tolist()
        return rows.index(item) if item in rows else -1

    assert position(factor * more) <= position(factor)


def test_a_boost_multiplies_the_value(shop: MakeShop) -> None:
    world = shop(boosts=({"name": "sale", "factor": 3, "fields": {"colour": ("red", "blue")}},))
    p = np.array([0.5, 0.2, 0.1])
    world.colours[[1, 2, 3]] = [3, 2, 1]  # green, blue, red
    world.items.fields["colour"] = world.colours
    candidates = {
        "rows": np.array([1, 2, 3]),
        "scores": np.log(p / (1 - p)).astype(np.float32),
    }
    answer = world.order(3, **candidates)
    assert world.names(answer) == ["i2", "i1", "i3"]
    np.testing.assert_allclose(np.exp(answer.scores_K), [3 * 0.2, 0.5, 3 * 0.1], rtol=1e-5)
    assert answer.rules_K == (("boost:sale",), (), ("boost:sale",))


def test_rules_hold_in_their_time_and_context(shop: MakeShop) -> None:
    block = {"items": ("i1",), "context": {"country": ("DE", "AT")}}
    before = {**block, "name": "before", "end": "2026-03-01T00:00:00Z"}
    after = {**block, "name": "after", "start": "2026-03-01T01:00:01+01:00"}
    now = {**block, "name": "now", "start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:00:01Z"}
    candidates = {"rows": np.array([1, 2]), "scores": np.array([1, 0], dtype=np.float32)}
    early_and_late = shop(blocks=(before, after))
    assert early_and_late.names(early_and_late.order(context={"country": "DE"}, **candidates)) == [
        "i1",
        "i2",
    ]
    world = shop(blocks=(before, now, after))
    for context, expected in (
        ({"country": "DE"}, ["i2"]),
        ({"country": "AT", "shop": "7"}, ["i2"]),
        ({"country": "CH"}, ["i1", "i2"]),
        ({}, ["i1", "i2"]),
    ):
        assert world.names(world.order(context=context, **candidates)) == expected


def test_blocked_rows_are_told_to_recall_and_follow_the_fields(shop: MakeShop) -> None:
    world = shop(
        blocks=(
            {"name": "one", "items": ("i5", "i6")},
            {"name": "reds", "fields": {"colour": ("red",)}},
        )
    )
    ruling = world.reranker.ruling({}, MIDNIGHT_US)
    reds = set(np.flatnonzero(world.colours == 1).tolist())
    assert set(ruling.blocked_rows.tolist()) == reds | {5, 6}
    # A field that changed counts at once in the last order.
    green = next(r for r in range(1, N) if world.colours[r] == 3 and r not in (5, 6))
    world.items.fields["colour"][green] = 1
    scores = np.zeros(N, dtype=np.float32)
    shown = world.order(N, rows=np.arange(1, N + 1), scores=scores).rows_K.tolist()
    assert set(shown) == set(range(1, N + 1)) - reds - {5, 6, green}


def test_an_item_is_meant_if_all_its_fields_match(shop: MakeShop) -> None:
    world = shop()
    sizes = np.zeros(N + 1, dtype=np.int64)
    sizes[[1, 2]] = 1
    world.colours[[1, 2, 3]] = [1, 2, 1]
    fields = {"colour": world.colours, "size": sizes}
    world.items.fields.update(fields)
    schema = (
        CategoricalField(name="colour", vocabulary=COLOURS),
        CategoricalField(name="size", vocabulary=("s",)),
    )
    rule = {"name": "small-reds", "fields": {"colour": ("red",), "size": ("s",)}}
    world.rulebook.rules = Rules.model_validate({"blocks": (rule,)})
    reranker = Reranker("tiny", world.items, schema, world.look_up, world.rulebook)
    assert reranker.ruling({}, MIDNIGHT_US).blocked_rows.tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "rule", "missed", "told"),
    [
        ("blocks", {"fields": {"brand": ("x",)}}, "values ['x'] of item field 'brand'", True),
        ("boosts", {"factor": 2, "fields": {"colour": ("mauve",)}}, "['mauve'] of item", True),
        ("caps", {"field": "brand", "most": 1}, "item field 'brand'", True),
        ("pins", {"item": "i99", "position": 0}, "item 'i99'", False),
        ("blocks", {"items": ("i99", "i1")}, "items ['i99']", False),
    ],
)
def test_what_the_bundle_does_not_know_is_told(
    shop: MakeShop,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    rule: dict[str, Any],
    missed: str,
    told: bool,
) -> None:
    world = shop(**{kind: ({"name": "odd", **rule},)})
    answer = world.order(5)
    assert len(answer.rows_K) == 5
    assert answer.degraded == (("rule_unknown:odd",) if told else ())
    [line] = caplog.messages
    assert line.startswith("rule odd: bundle tiny does not know ")
    assert missed in line


def test_rules_are_read_again_when_they_were_replaced(shop: MakeShop) -> None:
    world = shop()
    first = world.names(world.order(1))[0]
    block = {"name": "recall", "items": (first,)}
    world.rulebook.rules = Rules.model_validate({"blocks": (block,)})
    assert first not in world.names(world.order(25))
    world.rulebook.rules = Rules()
    assert world.names(world.order(1)) == [first]
