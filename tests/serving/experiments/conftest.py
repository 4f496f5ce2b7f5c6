from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.settings import Settings
from serving.state.store import Store
from tests.serving.bundles.answers import write_candidates
from tests.serving.experiments.configs import EVERYBODY, Revision, config, put
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


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the server, in which nothing is tried; new experiments have a new revision."""
    with Revision.anew(), httpx.Client(base_url=server.url, timeout=30) as client:
        put(client, config(EVERYBODY)).raise_for_status()
        yield client
