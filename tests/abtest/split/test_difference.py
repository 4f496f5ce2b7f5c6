from abtest.split.change import ramp, ship
from abtest.split.config import check_config
from abtest.split.difference import differences
from tests.abtest.split.settings import arm, config, experiment, layer, one


def test_equal_configurations_do_not_differ() -> None:
    assert differences(one(), one()) == ()


def test_lines_name_path_old_and_new() -> None:
    before = one(slots=[0, 500])
    assert differences(before, ramp(before, "x", 0.1)) == (
        "layers.model.experiments.x.slots: [[0, 500]] -> [[0, 1000]]",
    )
    assert differences(one(), ship(one(), "x", "new")) == (
        'layers.model.experiments.x.state: "running" -> "shipped"',
        'layers.model.experiments.x.winner: none -> "new"',
    )
    weights = one(variants=[arm("old", 0.4), arm("new", 0.6)])
    assert differences(one(), weights) == (
        "layers.model.experiments.x.variants.old.weight: 0.5 -> 0.4",
        "layers.model.experiments.x.variants.new.weight: 0.5 -> 0.6",
    )


def test_order_of_variants_is_a_difference() -> None:
    assert differences(one(), one(variants=[arm("new"), arm("old")])) == (
        "layers.model.experiments.x.variants: order old, new -> new, old",
    )


def test_types_are_a_difference() -> None:
    assert differences(config(defaults={"n": 1}), config(defaults={"n": True})) == (
        "defaults.n: 1 -> true",
    )


def test_what_comes_and_goes() -> None:
    holdout = {"key": "h", "seed": "s", "share": 0.1}
    assert differences(config(), config(holdouts=[holdout])) == (
        'holdouts.h: none -> {"key": "h", "revision": 1, "seed": "s", "share": 0.1}',
    )
    (line,) = differences(config(layer(experiment("x"))), config(layer()))
    assert line.startswith('layers.model.experiments.x: {"key": "x", "revision": 1, ')
    assert line.endswith("… -> none")
    assert len(line) < 400
    both = differences(one(force={"anna": "new"}), one(secondary_metrics=["ctr"]))
    assert both == (
        'layers.model.experiments.x.force.anna: "new" -> none',
        'layers.model.experiments.x.secondary_metrics: [] -> ["ctr"]',
    )


def test_domains_are_named_where_there_are_several() -> None:
    domains = [
        {"name": "a", "slots": [0, 5], "layers": [layer(experiment("x"))]},
        {"name": "b", "slots": [5, 9]},
    ]
    raw = {"version": 1, "defaults": {"bundle": "d"}, "domains": domains}
    before = check_config(raw)
    raw["domains"] = [domains[0], {"name": "b", "slots": [5, 10]}]
    assert differences(before, check_config(raw)) == ("domains.b.slots: [5, 9] -> [5, 10]",)
