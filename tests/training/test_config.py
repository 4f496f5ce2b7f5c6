from pathlib import Path
from typing import get_args

import pytest

from training.config import (
    CONFIG_FOLDER,
    ConfigError,
    TrainConfig,
    config_kind,
    config_path,
    config_toml,
    read_config,
    read_recflow_config,
)
from training.losses.config import LossConfig, LossName
from training.recflow.config import RecFlowConfig

MINIMAL = 'name = "mine"\n'


def _write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def _message(folder: Path, text: str) -> str:
    path = _write(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_defaults_and_sections(tmp_path: Path) -> None:
    config = read_config(_write(tmp_path, MINIMAL + "[rank]\nhidden = [8, 4]\n"))
    assert (config.name, config.loss) == ("mine", LossConfig(name="conditional", tau=1.0))
    assert config.rank.hidden == (8, 4)
    assert config.retrieval == TrainConfig(name="x").retrieval


def test_overrides_replace_top_level_values(tmp_path: Path) -> None:
    path = _write(tmp_path, MINIMAL + "seed = 1\n")
    assert read_config(path, {"seed": 7, "epochs": 2}).seed == 7
    assert read_config(path).seed == 1


def test_equal_configurations_have_equal_hashes(tmp_path: Path) -> None:
    path = _write(tmp_path, MINIMAL)
    assert read_config(path).sha256 == read_config(path, {"seed": 0}).sha256
    assert read_config(path).sha256 != read_config(path, {"seed": 1}).sha256


@pytest.mark.parametrize("name", ["baseline", "dftopk"])
def test_shipped_configurations_are_valid_and_named_as_their_files(name: str) -> None:
    assert read_config(config_path(name)).name == name


def test_shipped_configurations_share_models_data_and_budget() -> None:
    """What is compared is how the stages are trained, nothing else."""
    baseline, joint = (
        read_config(config_path(name)).model_dump(exclude={"name", "loss"})
        for name in ("baseline", "dftopk")
    )
    assert baseline == joint


@pytest.mark.parametrize("name", get_args(LossName))
def test_every_loss_has_lists_to_be_trained_on(tmp_path: Path, name: LossName) -> None:
    text = f'{MINIMAL}[loss]\nname = "{name}"\n[candidates]\nshared = true\n'
    assert read_config(_write(tmp_path, text)).loss.name == name


class TestConfigPath:
    def test_a_file(self, tmp_path: Path) -> None:
        path = _write(tmp_path, MINIMAL)
        assert config_path(str(path)) == path

    def test_a_shipped_name(self) -> None:
        assert config_path("dftopk") == CONFIG_FOLDER / "dftopk.toml"

    def test_missing_file(self) -> None:
        with pytest.raises(ConfigError, match=r"^nowhere/mine\.toml does not exist$"):
            config_path("nowhere/mine.toml")

    def test_unknown_name(self) -> None:
        known = sorted(path.stem for path in CONFIG_FOLDER.iterdir())
        with pytest.raises(ConfigError) as caught:
            config_path("dftop")
        assert str(caught.value) == (
            f"no configuration 'dftop'; known are {known}, or give a .toml file"
        )


class TestErrors:
    def test_not_toml(self, tmp_path: Path) -> None:
        assert "mine.toml is not valid TOML: " in _message(tmp_path, "name = [")

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.toml"
        path.write_bytes(b"name = '\xff'")
        with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML: .*utf-8"):
            read_config(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (MINIMAL + "epoch = 3\n", "epoch is an unknown key; did you mean epochs?"),
            (
                MINIMAL + "[retrieval]\nkeeps = 3\n",
                "retrieval.keeps is an unknown key; did you mean keep?",
            ),
            (
                MINIMAL + "[candidates]\nquux = 3\n",
                "candidates.quux is an unknown key; the keys are positives, history_negatives, "
                "recalled_negatives, dropped_negatives, random_negatives, shared",
            ),
            (
                MINIMAL + 'seed = "lucky"\n',
                "seed = 'lucky': Input should be a valid integer, unable to parse string as an "
                "integer",
            ),
            (
                MINIMAL + "[rank]\nkeep = 0\n",
                "rank.keep = 0: Input should be greater than or equal to 1",
            ),
            (
                MINIMAL + "[loss]\ntau = 0\n",
                "loss.tau = 0: Input should be greater than 0",
            ),
            (
                MINIMAL + '[loss]\nname = "lcron"\n',
                "loss.name = 'lcron' compares the scores of all stages on one list; add shared = "
                "true under [candidates], or choose one of bce, conditional, "
                "dftopk, lapsum, sparse, logistic",
            ),
            (
                MINIMAL.replace("mine", "My Run"),
                "name = 'My Run': String should match pattern '^[a-z0-9][a-z0-9-]{0,63}$'",
            ),
        ],
    )
    def test_invalid_keys(self, tmp_path: Path, text: str, message: str) -> None:
        assert _message(tmp_path, text) == message

    def test_missing_key(self, tmp_path: Path) -> None:
        message = _message(tmp_path, "seed = 1\n")
        assert message.startswith("name is missing; the keys are name, loss, joint_weight")

    def test_invalid_override(self, tmp_path: Path) -> None:
        path = _write(tmp_path, MINIMAL)
        with pytest.raises(ConfigError, match=r"mine\.toml: epochs = 0: Input should be"):
            read_config(path, {"epochs": 0})


RECFLOW = 'kind = "recflow"\nname = "mine"\n'


class TestRecFlow:
    def _refused(self, folder: Path, text: str) -> str:
        path = _write(folder, text)
        with pytest.raises(ConfigError) as caught:
            read_recflow_config(path)
        return str(caught.value).removeprefix(f"{path}: ")

    def test_defaults_sections_and_lists(self, tmp_path: Path) -> None:
        stages = [
            f'[[stages]]\nname = "{name}"\nmodel = "din"\nkeep = {keep}\n'
            for name, keep in (("a", 9), ("b", 3))
        ]
        config = read_recflow_config(
            _write(tmp_path, RECFLOW + "[loss]\ntau = 2\n" + "".join(stages))
        )
        assert [(stage.name, stage.keep) for stage in config.stages] == [("a", 9), ("b", 3)]
        assert config.loss == LossConfig(tau=2.0)
        assert config.batch_size == RecFlowConfig(name="x").batch_size

    def test_overrides_reach_into_sections(self, tmp_path: Path) -> None:
        path = _write(tmp_path, RECFLOW)
        changed = read_recflow_config(path, {"loss.tau": 3.0, "loss.name": "lcron", "seed": 4})
        assert (changed.loss, changed.seed) == (LossConfig(name="lcron", tau=3.0), 4)
        with pytest.raises(ConfigError, match=r"seed\.x cannot be set, seed is no section"):
            read_recflow_config(_write(tmp_path, RECFLOW + "seed = 1\n"), {"seed.x": 1})

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (RECFLOW + "epoch = 3\n", "epoch is an unknown key; did you mean epochs?"),
            (RECFLOW + "[loss]\ntua = 3\n", "loss.tua is an unknown key; did you mean tau?"),
            (
                RECFLOW + '[[stages]]\nname = "a"\nmodel = "din"\nkeeps = 3\n',
                "stages[0].keeps is an unknown key; did you mean keep?",
            ),
            (
                RECFLOW.replace("recflow", "recflo"),
                "kind = 'recflo': Input should be 'recflow'",
            ),
        ],
    )
    def test_invalid_keys(self, tmp_path: Path, text: str, message: str) -> None:
        assert self._refused(tmp_path, text) == message

    def test_kinds(self, tmp_path: Path) -> None:
        shop, recflow = config_path("dftopk"), config_path("recflow_dftopk")
        assert (config_kind(shop), config_kind(recflow)) == ("shop", "recflow")
        with pytest.raises(ConfigError, match=r"trains on a RecFlow log .*, not on a shop; take"):
            read_config(recflow)
        with pytest.raises(ConfigError, match=r"trains on a shop, not on a RecFlow log; take"):
            read_recflow_config(shop)
        with pytest.raises(ConfigError, match=r"kind = 'x' must be 'recflow', or absent for a sh"):
            config_kind(_write(tmp_path, 'kind = "x"'))

    def test_shipped_configurations_differ_by_what_they_are_named_for(self) -> None:
        configs = {
            name: read_recflow_config(config_path(f"recflow_{name}"))
            for name in ("dftopk", "bce", "lcron", "dftopk_three_stage")
        }
        for name, config in configs.items():
            assert config.name == f"recflow-{name}".replace("_", "-")
        assert [config.loss.name for config in configs.values()] == [
            "dftopk", "bce", "lcron", "dftopk",
        ]  # fmt: skip
        first, *others = (
            config.model_dump(exclude={"name", "loss", "stages"}) for config in configs.values()
        )
        assert all(other == first for other in others)
        two, *alike, three = (
            [(stage.model, stage.keep) for stage in config.stages] for config in configs.values()
        )
        assert two == [("dssm", 30), ("din", 20)]
        assert alike == [two, two]
        assert three == [("dssm", 40), ("mlp", 30), ("din", 20)]


def test_a_configuration_is_written_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "again.toml"
    recflow = RecFlowConfig(
        name="a", loss=LossConfig(tau=1e-5), last_train_day="2024-01-14", precision="bfloat16"
    )
    path.write_text(config_toml(recflow))
    assert read_recflow_config(path) == recflow
    shop = read_config(config_path("dftopk"), {"rank.hidden": [8, 4]})
    path.write_text(config_toml(shop))
    assert read_config(path) == shop
