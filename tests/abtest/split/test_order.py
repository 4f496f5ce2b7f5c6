"""What decides over what: force, holdout, domain, kept variant, slot, condition, time, variant."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from scipy.stats import chi2_contingency, chisquare

from abtest.events import Assignment
from abtest.split.config import check_config
from abtest.split.splitter import Splitter
from tests.abtest.split.settings import (
    NOON_US,
    UNITS,
    arm,
    config,
    experiment,
    layer,
    one,
    raw,
    splits,
    variants,
)

HOUR_US = 3600 * 10**6
HOLDOUT = {"key": "quarter", "seed": "q", "share": 0.2}
SHIPPED: dict[str, object] = {"state": "shipped", "winner": "new"}


def bundles(found: dict[str, Any]) -> Counter[Any]:
    return Counter(split.params["bundle"] for split in found.values())


def only(found: tuple[Assignment, ...]) -> Assignment:
    (assignment,) = found
    return assignment


@pytest.mark.parametrize("state", ["draft", "paused", "killed"])
def test_in_other_states_nobody_is_split(state: str) -> None:
    found = splits(one(state=state))
    assert variants(found) == {}
    assert bundles(found) == {"default": len(UNITS)}


def test_in_an_aa_phase_units_are_split_and_get_the_control() -> None:
    running, aa = splits(one()), splits(one(state="aa"))
    assert variants(aa) == variants(running)
    assert set(variants(aa).values()) == {"old", "new"}
    assert bundles(aa) == {"old": len(UNITS)}


def test_shipped_reaches_the_whole_layer_below_what_runs_there() -> None:
    short = experiment("y", slots=[0, 2000], variants=[arm("old", num=5), arm("new", num=9)])
    found = splits(config(layer(experiment("x", slots=[9000, 10_000], **SHIPPED), short)))
    assert bundles(found) == {"new": len(UNITS)}
    assert variants(found) == {}
    inside = variants(found, "y")
    assert 0.15 < len(inside) / len(UNITS) < 0.25
    for unit, split in found.items():
        assert split.params["num"] == {"old": 5, "new": 9, None: 20}[inside.get(unit)]


def test_a_running_experiment_stands_over_what_was_shipped() -> None:
    running = experiment("y", slots=[0, 5000], variants=[arm("old", bundle="a"), arm("new", num=1)])
    found = splits(config(layer(experiment("x", slots=[5000, 5001], **SHIPPED), running)))
    for unit, name in variants(found, "y").items():
        assert found[unit].params["bundle"] == {"old": "a", "new": "new"}[name]


def test_shipped_stays_in_its_domain() -> None:
    found = splits(
        check_config(
            {
                "version": 1,
                "defaults": {"bundle": "default"},
                "domains": [
                    {
                        "name": "a",
                        "slots": [0, 3000],
                        "layers": [layer(experiment("x", **SHIPPED))],
                    },
                    {"name": "b", "slots": [3000, 6000], "layers": [layer(experiment("y"))]},
                ],
            }
        )
    )
    inside = variants(found, "y")
    shipped = sum(
        split.params["bundle"] == "new" and unit not in inside for unit, split in found.items()
    )
    arms = Counter(inside.values())
    parts = [shipped, arms["old"], arms["new"], bundles(found)["default"]]
    assert sum(parts) == len(UNITS)
    expected = [share * len(UNITS) for share in (0.3, 0.15, 0.15, 0.4)]
    assert chisquare(parts, expected).pvalue > 0.001


def test_force_decides_over_everything() -> None:
    forced = {"anna": "new", "otto": "old"}
    hidden: list[dict[str, object]] = [
        {"state": state} for state in ("draft", "paused", "killed", "aa")
    ]
    hidden += [SHIPPED, {"when": {"country": "DE"}}, {"slots": [0, 1]}]
    hidden += [{"end": "2020-01-01T00:00:00Z"}, {"sticky": True}]
    for fields in hidden:
        for holdouts in ([], [{**HOLDOUT, "share": 0.99999}]):
            found = config(layer(experiment("x", force=forced, **fields)), holdouts=holdouts)
            splitter = Splitter(found)
            for unit, name in forced.items():
                split = splitter.assign(unit, now_us=NOON_US, kept={"x@1": "old"})
                given = split.assignments[-1]
                assert (given.key, given.variant, given.forced) == ("x", name, True)
                assert given.propensity == 1
                assert split.params["bundle"] == name
                assert split.keep == ()
                assert all(assignment.forced for assignment in split.assignments)
            others = splitter.assign("paul", now_us=NOON_US).assignments
            assert not any(given.forced for given in others)


def test_force_takes_the_layer_and_leaves_others_alone() -> None:
    found = config(
        layer(
            experiment("x", slots=[0, 1], force={"anna": "new"}),
            experiment("y", slots=[1, 10_000]),
        ),
        layer(experiment("z", variants=[arm("old", num=1), arm("new", num=2)]), name="length"),
    )
    split = Splitter(found).assign("anna", now_us=NOON_US)
    assert [(given.key, given.forced) for given in split.assignments] == [("x", True), ("z", False)]


def test_force_takes_the_unit_into_its_domain() -> None:
    domains = [
        {"name": "a", "slots": [0, 1], "layers": [layer(experiment("x", force={"anna": "new"}))]},
        {"name": "b", "slots": [1, 10_000], "layers": [layer(experiment("y"))]},
    ]
    found = check_config({"version": 1, "defaults": {"bundle": "d"}, "domains": domains})
    split = Splitter(found).assign("anna", now_us=NOON_US)
    assert [given.key for given in split.assignments] == ["x"]
    assert split.params["bundle"] == "new"


def test_two_units_of_one_request_forced_into_two_domains_go_to_the_first() -> None:
    domains = [
        {"name": "a", "slots": [0, 5], "layers": [layer(experiment("x", force={"anna": "new"}))]},
        {
            "name": "b",
            "slots": [5, 10_000],
            "layers": [layer(experiment("y", force={"367": "new"}), unit="store")],
        },
    ]
    found = check_config({"version": 1, "defaults": {"bundle": "d"}, "domains": domains})
    split = Splitter(found).assign("anna", now_us=NOON_US, attributes={"store": "367"})
    assert [given.key for given in split.assignments] == ["x"]


def test_a_holdout_gets_the_bare_defaults() -> None:
    shipped = experiment("y", variants=[arm("old", num=1), arm("new", num=2)], **SHIPPED)
    found = splits(
        config(layer(experiment("x")), layer(shipped, name="length"), holdouts=[HOLDOUT])
    )
    arms = variants(found, "quarter")
    assert arms.keys() == set(UNITS)
    held = [unit for unit, name in arms.items() if name == "held"]
    assert chisquare([len(held), len(UNITS) - len(held)], [800, 3200]).pvalue > 0.001
    for unit, split in found.items():
        given = split.assignments[0]
        assert (given.layer, given.key, given.revision) == ("holdout", "quarter", 1)
        assert not given.forced
        if arms[unit] == "held":
            assert given.propensity == 0.2
            assert split.params == {"bundle": "default", "num": 20}
            assert len(split.assignments) == 1
        else:
            assert given.propensity == 0.8
            assert split.params["num"] == 2
            assert split.assignments[1].key == "x"


def test_a_larger_holdout_keeps_whom_it_holds() -> None:
    small, large = (
        {unit for unit, name in variants(found, "quarter").items() if name == "held"}
        for found in (
            splits(config(holdouts=[HOLDOUT])),
            splits(config(holdouts=[{**HOLDOUT, "share": 0.5}])),
        )
    )
    assert small < large


def test_holdouts_are_independent_and_any_holds() -> None:
    second = {"key": "year", "seed": "y", "share": 0.5}
    found = splits(config(layer(experiment("x")), holdouts=[HOLDOUT, second]))
    first, other = variants(found, "quarter"), variants(found, "year")
    cells = Counter((first[unit], other[unit]) for unit in UNITS)
    table = [[cells[one, two] for two in ("held", "open")] for one in ("held", "open")]
    assert chi2_contingency(table).pvalue > 0.001
    inside = variants(found)
    assert inside.keys() == {
        unit for unit in UNITS if first[unit] == "open" and other[unit] == "open"
    }
    assert chisquare(list(Counter(inside.values()).values())).pvalue > 0.001


def test_domains_part_the_traffic() -> None:
    domains = [
        {"name": "a", "slots": [0, 2500], "layers": [layer(experiment("x"))]},
        {"name": "b", "slots": [2500, 7500], "layers": [layer(experiment("y"))]},
    ]
    found = splits(check_config({"version": 1, "defaults": {"bundle": "d"}, "domains": domains}))
    x, y = variants(found), variants(found, "y")
    assert not x.keys() & y.keys()
    sizes = [len(x), len(y), len(UNITS) - len(x) - len(y)]
    assert chisquare(sizes, [1000, 2000, 1000]).pvalue > 0.001
    assert chisquare(list(Counter(x.values()).values())).pvalue > 0.001


@pytest.mark.parametrize(
    ("when", "context", "inside"),
    [
        ({"country": "DE"}, {"country": "DE"}, True),
        ({"country": "DE"}, {"country": "AT"}, False),
        ({"country": "DE"}, {}, False),
        ({"country": ["DE", "AT"]}, {"country": "AT"}, True),
        ({"country": {"none_of": ["DE"]}}, {"country": "AT"}, True),
        ({"country": {"none_of": ["DE"]}}, {"country": "DE"}, False),
        ({"country": {"none_of": ["DE"]}}, {}, True),
        ({"country": {"none_of": ["DE"], "at_least": 1}}, {}, False),
        ({"age": {"at_least": 18, "below": 65}}, {"age": "18"}, True),
        ({"age": {"at_least": 18, "below": 65}}, {"age": "64.9"}, True),
        ({"age": {"at_least": 18, "below": 65}}, {"age": "65"}, False),
        ({"age": {"at_least": 18}}, {"age": "17.9"}, False),
        ({"age": {"at_least": 18}}, {"age": "old"}, False),
        ({"age": {"below": 18}}, {"age": "nan"}, False),
        ({"age": {"below": 18}}, {}, False),
        ({"country": "DE", "age": {"at_least": 18}}, {"country": "DE", "age": "20"}, True),
        ({"country": "DE", "age": {"at_least": 18}}, {"country": "DE", "age": "2"}, False),
    ],
)
def test_conditions(when: dict[str, object], context: dict[str, str], inside: bool) -> None:
    found = variants(splits(one(when=when), attributes=context))
    assert found == (variants(splits(one())) if inside else {})


def test_start_is_included_and_end_is_not() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    found = one(start=noon.isoformat(), end=(noon + timedelta(hours=1)).isoformat())
    for now_us, inside in (
        (NOON_US - 1, False),
        (NOON_US, True),
        (NOON_US + HOUR_US - 1, True),
        (NOON_US + HOUR_US, False),
    ):
        assert len(variants(splits(found, now_us=now_us))) == inside * len(UNITS)


def test_a_layer_by_another_unit() -> None:
    found = one()
    by_store = config(layer(experiment("x"), unit="store"))
    splitter = Splitter(by_store)
    for unit in UNITS[:100]:
        given = only(splitter.assign("anna", now_us=0, attributes={"store": unit}).assignments)
        assert given.cluster == unit
        same = only(Splitter(found).assign(unit, now_us=0).assignments)
        assert (given.variant, same.cluster) == (same.variant, None)
    for context in ({}, {"store": ""}):
        split = splitter.assign("anna", now_us=0, attributes=context)
        assert split.assignments == ()
        assert split.params["bundle"] == "default"


def test_a_sticky_variant_is_kept() -> None:
    found = one(sticky=True)
    splitter = Splitter(found)
    assert splitter.sticky
    first = {unit: splitter.assign(unit, now_us=NOON_US) for unit in UNITS[:200]}
    for unit, split in first.items():
        ((key, name),) = split.keep
        assert (key, name) == ("x@1", only(split.assignments).variant)
        again = splitter.assign(unit, now_us=NOON_US, kept=dict(split.keep))
        assert again == split._replace(keep=())
    for fields in (
        {"slots": [0, 1]},
        {"when": {"country": "DE"}},
        {"variants": [arm("old", 0.999), arm("new", 0.001)]},
        {"state": "aa"},
    ):
        narrow = Splitter(one(sticky=True, **fields))
        for unit, split in first.items():
            kept = narrow.assign(unit, now_us=NOON_US, kept=dict(split.keep))
            assert only(kept.assignments).variant == split.keep[0][1]
            assert kept.keep == ()
            assert kept.params["bundle"] == ("old" if "state" in fields else split.keep[0][1])


def test_a_kept_variant_counts_for_its_revision_while_the_experiment_lasts() -> None:
    kept = {"x@1": "new", "y@1": "new"}
    for fields in (
        {"revision": 2},
        {"state": "paused"},
        {"sticky": False},
        {"end": "2026-01-01T00:00:00Z"},
        {"start": "2026-02-01T00:00:00Z"},
        {"variants": [arm("old"), arm("newer")]},
    ):
        one_slot = one(**{"sticky": True, "slots": [0, 1], **fields})
        assert Splitter(one_slot).assign("anna", now_us=NOON_US, kept=kept).assignments == ()


def test_a_kept_variant_keeps_others_of_the_layer_away() -> None:
    found = config(
        layer(experiment("x", sticky=True, slots=[0, 1]), experiment("y", slots=[1, 10_000]))
    )
    split = Splitter(found).assign("anna", now_us=NOON_US, kept={"x@1": "new"})
    assert [(given.key, given.variant) for given in split.assignments] == [("x", "new")]


def test_whether_kept_variants_are_needed() -> None:
    assert not Splitter(one()).sticky
    assert not Splitter(one(sticky=True, state="paused")).sticky


def test_a_switchback_gives_everybody_a_periods_variant() -> None:
    splitter = Splitter(one(switchback={"period_min": 60}))
    seen = []
    for hour in range(400):
        for minute in (0, 59):
            now_us = NOON_US + hour * HOUR_US + minute * 60 * 10**6
            given = {only(splitter.assign(unit, now_us=now_us).assignments) for unit in UNITS[:5]}
            (assignment,) = given
            began = datetime.fromtimestamp((NOON_US + hour * HOUR_US) / 10**6, UTC)
            assert assignment.cluster == began.isoformat()
        seen.append(assignment.variant)
    assert chisquare(list(Counter(seen).values())).pvalue > 0.001
    changes = sum(left != right for left, right in pairwise(seen))
    assert 150 < changes < 250


def test_a_switchback_ramps_by_slots() -> None:
    found = splits(one(switchback={"period_min": 60}, slots=[0, 2000]))
    inside = variants(found)
    assert 0.15 < len(inside) / len(UNITS) < 0.25
    assert len(set(inside.values())) == 1


def test_an_empty_configuration_gives_the_defaults() -> None:
    split = Splitter(check_config({"version": 1, "defaults": {"num": 3}})).assign("u", now_us=0)
    assert (split.assignments, split.params, split.keep) == ((), {"num": 3}, ())
    assert Splitter(check_config(raw())).assign("u", now_us=0).params["num"] == 20


def test_parameters_of_a_split_are_its_own() -> None:
    splitter = Splitter(config(holdouts=[{**HOLDOUT, "share": 0.999}]))
    params = splitter.assign("u", now_us=0).params
    assert isinstance(params, dict)
    params["bundle"] = "broken"
    assert splitter.assign("u", now_us=0).params["bundle"] == "default"
