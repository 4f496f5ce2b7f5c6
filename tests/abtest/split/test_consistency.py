from typing import Any

import pytest

from abtest.split.config import check_config
from abtest.split.experiment import ExperimentError
from tests.abtest.split.settings import arm, config, experiment, layer, one, raw

SHIPPED = {"state": "shipped", "winner": "new"}


def several(*domains: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "defaults": {"bundle": "d"}, "domains": list(domains)}


def domain(name: str, first: int, end: int, *layers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "slots": [first, end], "layers": list(layers)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "shipped"}, "experiment x: shipped without a winner; set winner to one of"),
        (
            {"state": "shipped", "winner": "best"},
            "experiment x: winner 'best' must be one of ['old', 'new']",
        ),
        (
            {"winner": "new"},
            "experiment x: winner = 'new' is of state shipped, not running; remove it, or set "
            'state = "shipped"',
        ),
        (
            {"start": "2026-01-02T00:00:00"},
            "experiment x: start = 2026-01-02T00:00:00 must have a time zone; for UTC write "
            "2026-01-02T00:00:00Z",
        ),
        ({"end": "2026-01-02"}, "experiment x: end = 2026-01-02T00:00:00 must have a time zone"),
        (
            {"start": "2026-01-02T00:00:00Z", "end": "2026-01-02T01:00:00+01:00"},
            "experiment x: start = 2026-01-02T00:00:00+00:00 must be before end = "
            "2026-01-02T01:00:00+01:00",
        ),
        (
            {"force": {"anna": "newer"}},
            "experiment x: force 'anna' = 'newer' must be one of ['old', 'new']",
        ),
        (
            {"force": {"": "new"}},
            "force..[key]: String should have at least 1 character",
        ),
        (
            {"force": {f"u{number}": "new" for number in range(1001)}},
            "force: Dictionary should have at most 1000 items",
        ),
        (
            {"sticky": True, "switchback": {"period_min": 60}},
            "experiment x: sticky and switchback contradict: a unit cannot keep its variant and "
            "change it with the period; remove one",
        ),
        (
            {"when": {"country": {}}},
            "when.country: a condition with nothing in it; give one_of, none_of, at_least or "
            "below, or remove it",
        ),
        ({"when": {"country": []}}, "when.country: a condition with nothing in it"),
        (
            {"when": {"age": {"at_least": 30, "below": 30}}},
            "when.age: at_least = 30 and below = 30 leave nobody; at_least must be less than below",
        ),
        (
            {"when": {"country": {"one_of": ["DE"], "none_of": ["DE", "AT"]}}},
            "when.country: ['DE'] stand in one_of and in none_of; remove them from one",
        ),
        (
            {"when": {"country": [str(number) for number in range(1001)]}},
            "when.country.one_of: Tuple should have at most 1000 items",
        ),
        (
            {"slots": [[0, 600], [500, 900]]},
            "experiment x: slots 0..600 and 500..900 overlap; ranges must not share a slot",
        ),
        ({"slots": []}, "slots: Tuple should have at least 1 item"),
        (
            {"secondary_metrics": ["ctr", "ctr"]},
            "experiment x: secondary_metrics ['ctr', 'ctr'] must be unique; remove the second "
            "'ctr'",
        ),
        (
            {"guardrails": [{"metric": "p99"}, {"metric": "p99", "tolerance": 0.1}]},
            "experiment x: guardrails ['p99', 'p99'] must be unique",
        ),
        ({"segments": ["a", "b", "a"]}, "experiment x: segments ['a', 'b', 'a'] must be unique"),
        (
            {"primary_metric": "ctr", "secondary_metrics": ["ctr"]},
            "experiment x: primary_metric 'ctr' stands in secondary_metrics, too; remove it there",
        ),
        (
            {"coverage": 0.5},
            'experiment x: coverage = 0.5 means something with hash = "gb2" only; remove it',
        ),
        ({"seed": "s"}, "experiment x: seed = 's' means something with hash = \"gb2\" only"),
        (
            {"namespace": ["n", 0, 1]},
            "experiment x: namespace = ('n', 0.0, 1.0) means something with hash = \"gb2\" only",
        ),
        (
            {"namespace": ["n", 0.5, 0.5]},
            "experiment x: namespace ['n', 0.5, 0.5] must be an id, then 0 <= start < end <= 1",
        ),
        (
            {"variants": [arm("old"), arm("new", bundle="b" * 1001)]},
            "experiment x: parameter bundle has 1001 characters, at most 1000 are allowed",
        ),
        (
            {"variants": [arm("old"), arm("new", num=2**53)]},
            "experiment x: parameter num = 9007199254740992 must be in [-9007199254740991, ",
        ),
        (
            {"variants": [arm("old"), arm("new", num=float("nan"))]},
            "variants.1.params.num: nan must be a string, a finite number, true or false",
        ),
        (
            {"variants": [arm("old"), arm("new", num=[20])]},
            "variants.1.params.num: [20] must be a string, a finite number, true or false",
        ),
        ({"variants": [arm("old"), {"name": "new"}]}, "variants.1.weight: Field required"),
        ({"key": "x" * 101}, "key: String should match pattern"),
        ({"control": "c\x1f"}, "control: String should match pattern"),
        ({"hypothesis": "h" * 2001}, "hypothesis: String should have at most 2000 characters"),
    ],
)
def test_an_experiment_that_contradicts_itself(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        one(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            raw(
                layer(
                    experiment("x", slots=[0, 5], **SHIPPED),
                    experiment("y", slots=[5, 9], **SHIPPED),
                )
            ),
            "layer model: x and y are shipped and both set bundle; put the value into [defaults] "
            "and remove the older one",
        ),
        (
            raw(layer(experiment("x", slots=[0, 5]), experiment("y", slots=[4, 9]))),
            "slots of one layer must not overlap, give one other slots, or remove one that ended",
        ),
        (
            raw(layer(experiment("x", sticky=True), unit="store")),
            "layer model, experiment x: sticky is of layers whose unit is user_id, because "
            "variants are kept by user; remove it",
        ),
        (
            raw(
                layer(
                    experiment("x", slots=[0, 5], force={"anna": "old"}),
                    experiment("y", slots=[5, 9], force={"anna": "new"}),
                )
            ),
            "layer model: x and y both force 'anna'; experiments of a layer exclude each other",
        ),
        (
            raw(layer(name="holdout")),
            "layer holdout: the name is kept for holdouts; choose another",
        ),
        (
            raw(layer(), layer(name="other", seed="model-seed")),
            "domain all: seeds of layers ['model-seed', 'model-seed'] must be unique; remove the "
            "second 'model-seed'",
        ),
        (raw(layer(), layer(seed="s")), "layer model: layer names must be unique; rename one"),
        (
            several(domain("a", 0, 600), domain("b", 500, 900)),
            "domain a holds slots 0..600 and b 500..900; slots of domains must not overlap",
        ),
        (
            several(domain("a", 0, 600), domain("a", 600, 900)),
            "domains: names ['a', 'a'] must be unique",
        ),
        (
            several(domain("a", 600, 600)),
            "domain a: slots 600..600 must satisfy 0 <= first < end <= 10000",
        ),
        (
            several(
                domain("a", 0, 5, layer(experiment("x", force={"anna": "old"}))),
                domain("b", 5, 9, layer(experiment("y", force={"anna": "old"}))),
            ),
            "unit 'anna' is forced in domains a and b; a unit is in one domain, remove it from",
        ),
        (
            {**several(), "layers": []},
            "layers stand alone or in domains; move them into a domain",
        ),
        (
            raw(layer(experiment("x")), holdouts=[{"key": "x", "seed": "h", "share": 0.1}]),
            "holdout x: keys of holdouts and experiments must be unique; rename one",
        ),
        (
            raw(
                holdouts=[
                    {"key": "h", "seed": "h", "share": 0.1},
                    {"key": "i", "seed": "h", "share": 0.1},
                ]
            ),
            "holdouts: seeds ['h', 'h'] must be unique",
        ),
        (
            raw(layer(experiment("x"), name="l0"), layer(experiment("y"), name="l1")),
            "parameter bundle is set in layers l0 and l1; a parameter belongs to one layer, move",
        ),
        (
            several(
                *(
                    domain(
                        f"d{n}",
                        n,
                        n + 1,
                        layer(*(experiment(f"x{n}-{m}", state="draft") for m in range(67))),
                    )
                    for n in range(3)
                )
            ),
            "201 experiments must be at most 200; remove those that ended",
        ),
        (raw(defaults={"bundle": "d" * 1001}), "defaults: parameter bundle has 1001 characters"),
        (
            raw(layer(experiment("x", variants=[arm("old"), arm("new", num=20.0)]))),
            "experiment x: parameter num = 20.0 is float, its default is int; write it as int",
        ),
    ],
)
def test_parts_that_contradict_each_other(found: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_config(found)
    assert message in str(caught.value)


def test_a_draft_holds_no_slots() -> None:
    config(layer(experiment("x", **SHIPPED), experiment("y", state="draft", force={"anna": "new"})))


def test_shorthands() -> None:
    when = {"country": "DE", "shop": ["1", "2"], "age": {"at_least": 18, "below": 65}}
    found = one(when=when, slots=[0, 500], variants=[{"name": "old"}, {"name": "new"}])
    conditions = found.experiment("x").when
    assert conditions["country"].one_of == ("DE",)
    assert conditions["shop"].one_of == ("1", "2")
    assert (conditions["age"].at_least, conditions["age"].below) == (18, 65)
    assert found.experiment("x").slots == ((0, 500),)
    assert [variant.weight for variant in found.experiment("x").variants] == [0.5, 0.5]


def test_what_is_left_at_its_default_changes_no_hash() -> None:
    assert config().sha == config(hash="xxh3", holdouts=[]).sha
    assert one().sha != one(hypothesis="it sells").sha


def test_variant_by_name() -> None:
    found = one().experiment("x")
    assert found.variant("new").name == "new"
    with pytest.raises(ExperimentError, match=r"experiment x has no variant 'best'; it has \['old"):
        found.variant("best")
