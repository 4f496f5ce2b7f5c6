import pytest

from abtest.split.config import parse_config
from abtest.split.experiment import ExperimentError
from serving.cascade.policy import Policy, check_policies, parse_policy

DEFAULTS = """
version = 1
[defaults]
bundle = "baseline"
price_exponent = 0.0
[[layers]]
name = "order"
seed = "s"
[[layers.experiments]]
key = "value"
revision = 1
state = "running"
control = "a"
variants = [
    { name = "a", weight = 0.5 },
    { name = "b", weight = 0.5, params = { price_exponent = 0.5 } },
]
"""


def test_parameters_become_a_policy_and_the_rest_is_default() -> None:
    found = parse_policy({"bundle": "b", "recall_keep": 50, "diversity": "mmr"})
    assert found == Policy(bundle="b", recall_keep=50, diversity="mmr")
    assert found.probability_exponent == 1
    assert found.price_exponent == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("recal_keep", 5, r"parameter recal_keep is unknown; known are \['bundle', 'cap'"),
        ("recall_keep", 0, r"recall_keep = 0: .* greater than or equal to 1; give a value in its"),
        ("price_exponent", -0.5, r"price_exponent = -0.5: .* greater than or equal to 0"),
        ("diversity", "random", r"diversity = 'random': Input should be 'none', 'mmr' or 'dpp'"),
        ("diversity_strength", 1.5, r"diversity_strength = 1.5: .* less than or equal to 1"),
        ("cap", 3, r"^cap_field '' and cap 3 only work together; set both$"),
        ("cap_field", "brand", r"^cap_field 'brand' and cap 0 only work together; set both$"),
    ],
)
def test_parameters_that_are_none(name: str, value: str | float, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        parse_policy({"bundle": "b", name: value})


def test_every_variant_of_a_configuration_is_checked() -> None:
    check_policies(parse_config(DEFAULTS))
    with pytest.raises(
        ExperimentError, match=r"experiment value, variant b: parameter price_exponent = 50.0: "
    ):
        check_policies(parse_config(DEFAULTS.replace("0.5 } }", "50.0 } }")))
    with pytest.raises(ExperimentError, match=r"^parameter k is unknown"):
        check_policies(parse_config('version = 1\n[defaults]\nbundle = "b"\nk = 1\n'))


LAYERS = """
version = 1
[defaults]
bundle = "baseline"
interleave_with = ""
cap = 0
cap_field = ""
[[layers]]
name = "one"
seed = "one"
[[layers.experiments]]
key = "first"
revision = 1
control = "a"
variants = [{ name = "a", weight = 0.5 }, { name = "b", weight = 0.5, params = { FIRST } }]
[[layers]]
name = "two"
seed = "two"
[[layers.experiments]]
key = "second"
revision = 1
control = "a"
variants = [{ name = "a", weight = 0.5 }, { name = "b", weight = 0.5, params = { SECOND } }]
"""


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            'cap = 3, cap_field = "brand"',
            "interleave_with = 'baseline'",
            r"experiment second, variant b: interleave_with = 'baseline' is the bundle itself; na",
        ),
        (
            'bundle = "x"',
            'interleave_with = "y"',
            r"domain all: bundle is set in layer one and interleave_with in layer two; set both in",
        ),
        (
            'cap_field = "brand"',
            "cap = 3",
            r"domain all: cap_field is set in layer one and cap in layer two; set both in one lay",
        ),
    ],
)
def test_parameters_that_only_work_together(first: str, second: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        check_policies(parse_config(LAYERS.replace("FIRST", first).replace("SECOND", second)))


def test_a_variant_on_top_of_what_was_shipped() -> None:
    shipped = LAYERS.replace("FIRST", 'cap = 3, cap_field = "brand"').replace(
        "SECOND", 'interleave_with = "y"'
    )
    check_policies(parse_config(shipped))
    running = """
[[layers.experiments]]
key = "third"
revision = 1
control = "a"
variants = [{ name = "a", weight = 0.5 }, { name = "b", weight = 0.5, params = { cap = 0 } }]
"""
    both = shipped.replace(
        'key = "first"\nrevision = 1',
        'key = "first"\nrevision = 1\nstate = "shipped"\nwinner = "b"',
    ).replace('[[layers]]\nname = "two"', f'{running}\n[[layers]]\nname = "two"')
    with pytest.raises(
        ExperimentError,
        match=r"third, variant b, on top of what was shipped: cap_field 'brand' and",
    ):
        check_policies(parse_config(both))
