from pathlib import Path

import pytest

from tests.training.tables import TOML
from training.data.source import DatasetConfig, DatasetError, read_dataset_config


def _read(folder: Path, text: str) -> DatasetConfig:
    path = folder / "dataset.toml"
    path.write_text(text)
    return read_dataset_config(path)


def _message(folder: Path, old: str, new: str) -> str:
    text = TOML.format(min_item_count=2)
    assert old in text
    with pytest.raises(DatasetError) as caught:
        _read(folder, text.replace(old, new, 1))
    message = str(caught.value)
    prefix = f"{folder / 'dataset.toml'}: "
    assert message.startswith(prefix)
    return message.removeprefix(prefix)


def test_every_key(tmp_path: Path) -> None:
    config = _read(tmp_path, TOML.format(min_item_count=2))
    assert (config.name, config.currency, config.min_item_count) == ("corner-shop", "EUR", 2)
    assert config.users.features == ('home "town"', "who's")
    assert config.items.available == "in stock"
    assert config.interactions.context == ("store",)
    assert (config.split.test_days, config.split.validation_days) == (7, 7)


def test_defaults(tmp_path: Path) -> None:
    config = _read(
        tmp_path,
        """
        name = "bare"
        currency = "USD"
        users = { file = "u", id = "u" }
        items = { file = "i", id = "i" }
        interactions = { file = "x", user = "u", item = "i", time = "t", revenue = "r" }
        """,
    )
    assert (config.split.test_days, config.split.validation_days) == (28, 28)
    assert config.min_item_count == 5
    assert config.items.available is None
    assert config.interactions.price is None


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset_config(tmp_path / "dataset.toml")
    assert str(caught.value) == (
        f"{tmp_path}/dataset.toml does not exist; write one as docs/data.md shows"
    )


def test_not_toml(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.toml is not valid TOML: Invalid value"):
        _read(tmp_path, "name = ")


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "dataset.toml"
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(DatasetError, match=r"dataset\.toml is not valid TOML: .*utf-8"):
        read_dataset_config(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "currency =",
            "curency =",
            "curency is an unknown key; did you mean currency?",
        ),
        (
            "[split]",
            "[split]\nvalidation_day = 3",
            "split.validation_day is an unknown key; did you mean validation_days?",
        ),
        (
            "[split]",
            "[split]\nfolds = 3",
            "split.folds is an unknown key; the keys are test_days, validation_days",
        ),
        (
            "[users]",
            "[user]",
            "user is an unknown key; did you mean users?",
        ),
        (
            "test_days = 7",
            "test_days = 0",
            "split.test_days = 0: Input should be greater than or equal to 1",
        ),
        (
            "test_days = 7",
            "test_days = 'week'",
            "split.test_days = 'week': Input should be a valid integer, unable to parse string as "
            "an integer",
        ),
        (
            '"EUR"',
            '"euro"',
            "currency = 'euro': String should match pattern '^[A-Z]{3}$'",
        ),
        (
            '["store"]',
            '["store", "till", "store"]',
            "interactions.context = ['store', 'till', 'store']: 'store' occurs twice; "
            "name each column once",
        ),
        (
            '["kind",',
            '["popularity",',
            """items.features = ['popularity', "brand's"]: 'popularity' is a column of every """
            "item table; rename it",
        ),
    ],
)
def test_invalid_keys(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert _message(tmp_path, old, new) == message
