from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.settings import Settings
from serving.state.store import Store
from tests.serving.bundles.answers import write_candidates
from tests.serving.world import ServerProcess


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(Settings(data_dir=Path(tmp_path_factory.mktemp("versions")))) as opened:
        yield opened


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server with everybody at `baseline` at first, and good and bad bundles to name."""
    data_dir = tmp_path_factory.mktemp("experiments")
    write_candidates(data_dir)
    process = ServerProcess(data_dir)
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()
