"""What holds for every test: seeds, one thread, and a reason where a GPU is missing."""

import random
import signal
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from tests.shop import prepare_shop, tiny_config
from training.data.dataset import PreparedDataset
from training.trainer import train

hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("seeded")

# What a shell starts with `&` ignores SIGINT, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors are tiny here: on a busy machine more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # libraries may draw from it
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The small shop, prepared."""
    return prepare_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def shop_runs(shop: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of both arms, trained on the small shop; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {name: folder / name for name in ("baseline", "dftopk")}
    for name, out in runs.items():
        train(shop, tiny_config(folder, name), out)
    return runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files that take long go first, so that no process is left alone with one of them at the end.
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
