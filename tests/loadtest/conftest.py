from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loadtest.purchases import write_replay
from tests.serving.world import ServerProcess, write_world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_replay(tmp_path / "replay", trips=60)
    return tmp_path / "replay"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("served")
    write_world(data_dir)
    process = ServerProcess(data_dir)
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()
