from importlib import resources
from pathlib import Path

import pytest

from abtest.split.config import load_config, parse_config
from abtest.split.experiment import ExperimentError
from tests.abtest.traffic import KEY, config

ARM = '{ name = "a", weight = 0.5 }, { name = "b", weight = 0.5 }'


def experiment(
    key: str = "x", control: str = "a", variants: str = ARM, slots: str = "[0, 10000]"
) -> str:
    return (
        f'[[layers.experiments]]\nkey = "{key}"\nrevision = 1\nstate = "running"\n'
        f'control = "{control}"\nslots = {slots}\nvariants = [{variants}]\n'
    )


def document(*experiments: str) -> str:
    layer = '[[layers]]\nname = "l"\nseed = "s"\n'
    return 'version = 1\n[defaults]\nbundle = "old"\n' + layer + "".join(experiments)


def test_shipped_configuration_is_valid() -> None:
    text = resources.files("abtest").joinpath("configs/dftopk-vs-baseline.toml").read_text()
    found = parse_config(text).experiment("dftopk-vs-baseline")
    assert [(v.name, v.weight, v.params["bundle"]) for v in found.variants] == [
        ("baseline", 0.5, "baseline"),
        ("dftopk", 0.5, "dftopk"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "experiments is not valid TOML: Invalid value"),
        ("version = 2\n[defaults]\n", "experiments: version: Input should be 1, not 2"),
        ("version = 1\nretries = 3\n[defaults]\n", "retries: Extra inputs are not permitted"),
        (
            document(experiment(variants='{name = "a", weight = 0.5}, {name = "b", weight = 0.4}')),
            "experiment x: weights 0.5 + 0.4 = 0.9 must sum to 1",
        ),
        (
            document(experiment(variants='{name = "a", weight = 0.5}, {name = "a", weight = 0.5}')),
            "experiment x: variant names ['a', 'a'] must be unique",
        ),
        (
            document(experiment(control="c")),
            "experiment x: control 'c' must be one of ['a', 'b']",
        ),
        (
            document(experiment(slots="[500, 500]")),
            "experiment x: slots 500..500 must satisfy 0 <= first < end <= 10000",
        ),
        (
            document(experiment("x", slots="[0, 600]"), experiment("y", slots="[500, 900]")),
            "layer l: x holds slots 0..600 and y 500..900; slots of one layer must not overlap",
        ),
        (
            document(experiment("x", slots="[0, 1]"), experiment("x", slots="[1, 2]")),
            "experiment x: keys must be unique",
        ),
        (
            document() + '[[layers]]\nname = "l"\nseed = "t"\n',
            "layer l: layer names must be unique",
        ),
        (
            document(
                experiment(
                    variants='{name = "a", weight = 0.5, params = {bundel = "x"}}, '
                    '{name = "b", weight = 0.5}'
                )
            ),
            "experiment x: parameter bundel has no value in [defaults]; declared are ['bundle']",
        ),
        (
            document(
                experiment(
                    variants='{name = "a", weight = 0.5, params = {bundle = 3}}, '
                    '{name = "b", weight = 0.5}'
                )
            ),
            "experiment x: parameter bundle = 3 is int, its default is str",
        ),
    ],
)
def test_faults_name_place_value_and_rule(text: str, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        parse_config(text)
    assert message in str(caught.value)


def test_a_parameter_belongs_to_one_layer() -> None:
    arms = '{name = "a", weight = 0.5, params = {bundle = "x"}}, {name = "b", weight = 0.5}'
    text = document(experiment("x", variants=arms))
    text += '[[layers]]\nname = "m"\nseed = "t"\n' + experiment("y", variants=arms)
    with pytest.raises(
        ExperimentError, match=r"parameter bundle is set in layers l and m; .* to one layer"
    ):
        parse_config(text)


def test_unknown_key_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=f"no experiment 'nope'; known are \\['{KEY}'\\]"):
        config().experiment("nope")
    missing = tmp_path / "experiments.toml"
    with pytest.raises(ExperimentError, match=r"experiments.toml does not exist; write one"):
        load_config(missing)
    missing.write_text(document(experiment()))
    assert load_config(missing).experiment("x").control == "a"


def test_sha_follows_the_content() -> None:
    assert config().sha == config().sha
    assert config().sha != config((0.6, 0.4)).sha
