from collections import Counter

from abtest.split.change import pause, ship
from abtest.split.movement import moved
from abtest.split.splitter import Splitter
from tests.abtest.split.settings import (
    NOON_US,
    UNITS,
    arm,
    config,
    experiment,
    layer,
    one,
    splits,
    variants,
)


def test_nobody_moves_where_nothing_changes() -> None:
    movement = moved(Splitter(one()), Splitter(one(hypothesis="h")), UNITS, NOON_US)
    assert (movement.units, movement.changed, movement.moves) == (len(UNITS), 0, ())


def test_who_leaves_goes_from_a_variant_to_none() -> None:
    arms = Counter(variants(splits(one())).values())
    movement = moved(Splitter(one()), Splitter(pause(one(), "x")), UNITS, NOON_US)
    assert movement.changed == len(UNITS)
    assert [(m.layer, m.key, m.before, m.after, m.units) for m in movement.moves] == [
        ("model", "x", "new", None, arms["new"]),
        ("model", "x", "old", None, arms["old"]),
    ]
    for move in movement.moves:
        assert len(move.examples) == 5
        found = variants(splits(one()))
        assert {found[unit] for unit in move.examples} == {move.before}


def test_a_new_revision_moves_half_of_a_half() -> None:
    movement = moved(Splitter(one()), Splitter(one(revision=2)), UNITS, NOON_US)
    assert {(move.before, move.after) for move in movement.moves} == {
        ("new", "old"),
        ("old", "new"),
    }
    assert 0.45 < sum(move.units for move in movement.moves) / len(UNITS) < 0.55


def test_shipping_changes_parameters_of_those_outside_too() -> None:
    before = one(slots=[0, 100])
    movement = moved(Splitter(before), Splitter(ship(before, "x", "new")), UNITS, NOON_US)
    stay = sum(name == "new" for name in variants(splits(before)).values())
    assert movement.changed == len(UNITS) - stay


def test_a_parameter_that_is_declared_changes_nobody_until_a_variant_sets_it() -> None:
    for speed in (5, 9):
        arms = [arm("old"), arm("new", bundle="new", speed=speed)]
        defaults = {"bundle": "default", "num": 20, "speed": 5}
        after = config(layer(experiment("x", variants=arms)), defaults=defaults)
        movement = moved(Splitter(one()), Splitter(after), UNITS, NOON_US)
        new = sum(name == "new" for name in variants(splits(after)).values())
        assert movement.changed == (0 if speed == 5 else new)
        assert movement.moves == ()


def test_who_changes_experiments_is_told_in_both() -> None:
    one_way = config(layer(experiment("x", slots=[0, 5000]), experiment("y", slots=[5000, 10_000])))
    other = config(layer(experiment("y", slots=[0, 5000]), experiment("x", slots=[5000, 10_000])))
    movement = moved(Splitter(one_way), Splitter(other), UNITS, NOON_US)
    assert sum(move.units for move in movement.moves) == 2 * len(UNITS)
    assert {(move.key, move.before is None) for move in movement.moves} == {
        ("x", True),
        ("x", False),
        ("y", True),
        ("y", False),
    }


def test_context_is_taken_as_given() -> None:
    found = one(when={"country": "DE"})
    here = moved(Splitter(config(layer())), Splitter(found), UNITS[:50], NOON_US)
    there = moved(
        Splitter(config(layer())), Splitter(found), UNITS[:50], NOON_US, {"country": "DE"}
    )
    assert here.moves == ()
    assert sum(move.units for move in there.moves) == 50
