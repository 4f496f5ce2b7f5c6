from collections.abc import Iterator

import httpx
import pytest

from tests.serving.bundles.answers import EVERYBODY, activate, wait_until, write_candidates
from tests.serving.world import ServerProcess


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests here, which take a while to start."""
    data_dir = tmp_path_factory.mktemp("bundles")
    write_candidates(data_dir)
    process = ServerProcess(data_dir)
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the server, which is as it was at first."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        (server.data_dir / "experiments.toml").write_text(EVERYBODY)
        wait_until(lambda: len(client.get("/v1/bundles").json()["served"]) == 1)
        client.delete("/v1/bundles/baseline/shadow")
        activate(client, "baseline")
        yield client
