"""Business rules in the last order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.cascade.rerank.reranker import Reranker
from serving.cascade.rerank.rules import Rules
from tests.serving.cascade.shop import COLOURS, MIDNIGHT_US, N, Shop, policies, quick, seeds
from training.features import CategoricalField


@quick
@given(seeds, policies(), st.integers(0, 9), st.integers(1, N))
def test_a_pin_is_at_its_place(seed: int, policy: dict[str, Any], position: int, item: int) -> None:
    world = Shop(seed, pins=({"name": "launch", "item": f"i{item}", "position": position},))
    answer = world.order(10, policy)
    assert answer.rows_K[position] == item
    assert answer.rules_K[position] == ("pin:launch",)
    others = [r for r in answer.rows_K.tolist() if r != item]
    assert len(others) == 9
    if policy["diversity"] == "none" and "cap" not in policy:
        unpinned = [r for r in Shop(seed).order(25, policy).rows_K.tolist() if r != item]
        assert others == unpinned[:9]


def test_a_pin_that_may_not_be_shown_is_not() -> None:
    pins = ({"name": "launch", "item": "i1", "position": 0},)
    world = Shop(pins=pins)
    world.items.available_R[1] = False
    candidates: dict[str, Any] = {
        "rows": np.arange(2, 12),
        "scores": np.linspace(1, 0, 10, dtype=np.float32),
    }
    assert world.names(world.order(2, **candidates)) == ["i2", "i3"]
    world.items.available_R[1] = True
    assert world.names(world.order(2, **candidates)) == ["i1", "i2"]
    assert world.names(world.order(2, excluded_rows=np.array([1]), **candidates)) == ["i2", "i3"]
    blocked = Shop(pins=pins, blocks=({"name": "recall", "items": ("i1",)},))
    assert blocked.names(blocked.order(2, **candidates)) == ["i2", "i3"]


def test_pins_that_meet_make_room_for_each_other() -> None:
    world = Shop(
        pins=(
            {"name": "first", "item": "i10", "position": 1},
            {"name": "second", "item": "i9", "position": 1},
            {"name": "again", "item": "i10", "position": 0},
            {"name": "outside", "item": "i8", "position": 5},
        )
    )
    candidates: dict[str, Any] = {
        "rows": np.arange(1, 8),
        "scores": np.linspace(1, 0, 7, dtype=np.float32),
    }
    answer = world.order(4, **candidates)
    assert world.names(answer) == ["i1", "i10", "i9", "i2"]
    assert answer.rules_K == ((), ("pin:first",), ("pin:second",), ())
    # What no stage scored has the least of their scores.
    assert answer.scores_K.tolist() == [1, 0, 0, candidates["scores"][1]]
    # Places that nothing is left for close.
    alone = world.order(10, rows=np.array([], dtype=np.int64), scores=np.array([], np.float32))
    assert world.names(alone) == ["i10", "i9", "i8"]
    assert alone.scores_K.tolist() == [0, 0, 0]


@quick
@given(seeds, st.integers(1, N), st.floats(0.01, 20), st.floats(1, 50))
def test_a_greater_boost_never_moves_an_item_down(
    seed: int, item: int, factor: float, more: float
) -> None:
    def position(factor: float) -> int:
        boost = {"name": "sale", "factor": factor, "items": (f"i{item}",)}
        rows = Shop(seed, boosts=(boost,)).order(25).rows_K.tolist()
        return rows.index(item) if item in rows else -1

    assert position(factor * more) <= position(factor)


def test_a_boost_multiplies_the_value() -> None:
    world = Shop(boosts=({"name": "sale", "factor": 3, "fields": {"colour": ("red", "blue")}},))
    p = np.array([0.5, 0.2, 0.1])
    world.items.fields["colour"][[1, 2, 3]] = [3, 2, 1]  # green, blue, red
    candidates: dict[str, Any] = {
        "rows": np.array([1, 2, 3]),
        "scores": np.log(p / (1 - p)).astype(np.float32),
    }
    answer = world.order(3, **candidates)
    assert world.names(answer) == ["i2", "i1", "i3"]
    np.testing.assert_allclose(np.exp(answer.scores_K), [3 * 0.2, 0.5, 3 * 0.1], rtol=1e-5)
    assert answer.rules_K == (("boost:sale",), (), ("boost:sale",))


def test_rules_hold_in_their_time_and_context() -> None:
    block = {"items": ("i1",), "context": {"country": ("DE", "AT")}}
    before = {**block, "name": "before", "end": "2026-03-01T00:00:00Z"}
    after = {**block, "name": "after", "start": "2026-03-01T01:00:01+01:00"}
    now = {**block, "name": "now", "start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:00:01Z"}
    candidates: dict[str, Any] = {
        "rows": np.array([1, 2]),
        "scores": np.array([1, 0], dtype=np.float32),
    }
    early_and_late = Shop(blocks=(before, after))
    assert early_and_late.names(early_and_late.order(context={"country": "DE"}, **candidates)) == [
        "i1",
        "i2",
    ]
    world = Shop(blocks=(before, now, after))
    for context, expected in (
        ({"country": "DE"}, ["i2"]),
        ({"country": "AT", "shop": "7"}, ["i2"]),
        ({"country": "CH"}, ["i1", "i2"]),
        ({}, ["i1", "i2"]),
    ):
        assert world.names(world.order(context=context, **candidates)) == expected


def test_blocked_rows_are_told_to_recall_and_follow_the_fields() -> None:
    world = Shop(
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


def test_an_item_is_meant_if_all_its_fields_match() -> None:
    world = Shop()
    sizes = np.zeros(len(world.items), dtype=np.int64)
    sizes[[1, 2]] = 1
    world.items.fields["colour"][[1, 2, 3]] = [1, 2, 1]
    world.items.fields["size"] = sizes
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
    caplog: pytest.LogCaptureFixture,
    kind: str,
    rule: dict[str, Any],
    missed: str,
    told: bool,
) -> None:
    rules: dict[str, Any] = {kind: ({"name": "odd", **rule},)}
    world = Shop(**rules)
    answer = world.order(5)
    assert len(answer.rows_K) == 5
    assert answer.degraded == (("rule_unknown:odd",) if told else ())
    [line] = caplog.messages
    assert line.startswith("rule odd: bundle tiny does not know ")
    assert missed in line


def test_rules_are_read_again_when_they_were_replaced() -> None:
    world = Shop()
    first = world.names(world.order(1))[0]
    block = {"name": "recall", "items": (first,)}
    world.rulebook.rules = Rules.model_validate({"blocks": (block,)})
    assert first not in world.names(world.order(25))
    world.rulebook.rules = Rules()
    assert world.names(world.order(1)) == [first]


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ({"items": ("i5", "i6")}, set()),
        ({"items": ("i5",), "fields": {"colour": ("green",)}}, {"green"}),
        ({"items": ("i5",), "fields": {"colour": ("green", "blue")}}, {"green", "blue"}),
        # What the bundle does not know is not what it knows nothing of.
        ({"items": ("i5",), "fields": {"colour": ("mauve", "red")}}, {"red"}),
        ({"items": ("i5",), "fields": {"colour": ("red",), "brand": ("x",)}}, set()),
    ],
)
def test_items_are_meant_by_their_name_or_by_their_fields(
    rule: dict[str, Any], more: set[str]
) -> None:
    world = Shop(blocks=({"name": "odd", **rule},))
    of_fields = {r for r in range(N + 1) if ("", *COLOURS)[world.colours[r]] in more}
    expected = of_fields | {int(item[1:]) for item in rule["items"]}
    assert set(world.reranker.ruling({}, MIDNIGHT_US).blocked_rows.tolist()) == expected


def test_a_rule_may_wait_for_its_item() -> None:
    world = Shop(pins=({"name": "launch", "item": "new", "position": 0},))
    assert world.order(5).rules_K == ((),) * 5
    world.items.index.add(["new"])
    world.items.available_R[N + 1] = True
    assert world.names(world.order(5))[0] == "new"
