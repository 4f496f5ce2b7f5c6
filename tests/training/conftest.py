"""Prepared datasets that tests read and leave as they are."""

from pathlib import Path

import pytest

from tests.training.tables import Source, corner_shop, random_shop
from training.data.dataset import PreparedDataset
from training.data.transactions import prepare


@pytest.fixture(scope="session")
def corner(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """`corner_shop`, prepared, in folders whose names need quoting."""
    return _prepared(corner_shop(), tmp_path_factory.mktemp("corner"))


@pytest.fixture(scope="session")
def random_source() -> Source:
    return random_shop(seed=0)


@pytest.fixture(scope="session")
def random_dataset(
    random_source: Source, tmp_path_factory: pytest.TempPathFactory
) -> PreparedDataset:
    return _prepared(random_source, tmp_path_factory.mktemp("random"))


def _prepared(source: Source, folder: Path) -> PreparedDataset:
    return prepare(source.write(folder / "it's a shop"), folder / 'so "prepared"')
