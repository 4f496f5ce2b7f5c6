from pathlib import Path

import pytest

from training.config import CONFIG_FOLDER, ConfigError, TrainConfig, config_path, read_config

MINIMAL = 'name = "mine"\nobjective = "joint"\n'


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
    assert (config.name, config.objective, config.operator) == ("mine", "joint", "dftopk")
    assert config.rank.hidden == (8, 4)
    assert config.retrieval == TrainConfig(name="x", objective="joint").retrieval


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
        read_config(config_path(name)).model_dump(exclude={"name", "objective", "operator", "tau"})
        for name in ("baseline", "dftopk")
    )
    assert baseline == joint


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
                "recalled_negatives, random_negatives",
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
                MINIMAL.replace("joint", "both"),
                "objective = 'both': Input should be 'separate' or 'joint'",
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
        message = _message(tmp_path, 'name = "mine"\n')
        assert message.startswith("objective is missing; the keys are name, objective, operator")

    def test_invalid_override(self, tmp_path: Path) -> None:
        path = _write(tmp_path, MINIMAL)
        with pytest.raises(ConfigError, match=r"mine\.toml: epochs = 0: Input should be"):
            read_config(path, {"epochs": 0})
