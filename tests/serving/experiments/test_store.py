"""Versions in a real Valkey: one newest, whoever writes."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
import redis.asyncio

from abtest.split.experiment import ExperimentError
from serving.experiments import store as keys
from serving.experiments.store import OutdatedError, UnknownVersionError, VersionStore
from serving.experiments.version import Change, Version
from serving.state.control import KEY
from serving.state.store import Store
from tests.serving.experiments.configs import EVERYBODY, config

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = Version.first(config(EVERYBODY), "0" * 64, NOW)
SECOND = FIRST.next(config(), at=NOW, by="ann", note="why not")


def with_versions(
    store: Store, use: Callable[[VersionStore, redis.asyncio.Redis], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with store.client() as client:
            await client.flushall()
            await use(VersionStore(client), client)

    asyncio.run(run())


def test_what_was_appended_is_read_and_announced(store: Store) -> None:
    async def use(versions: VersionStore, client: redis.asyncio.Redis) -> None:
        assert await versions.newest() is None
        assert await versions.audit(10) == ()
        await versions.append(FIRST, ())
        await versions.append(SECOND, ("a: 1 -> 2",))
        assert await versions.newest() == SECOND
        assert await versions.version(1) == FIRST
        assert await versions.version(2) == SECOND
        trail = (Change.of(SECOND, ("a: 1 -> 2",)), Change.of(FIRST, ()))
        assert await versions.audit(10) == trail
        assert await versions.audit(1) == trail[:1]
        assert await client.hget(KEY, keys.TOPIC) == b"2"

    with_versions(store, use)


def test_a_version_is_written_only_after_the_one_it_was_made_from(store: Store) -> None:
    async def use(versions: VersionStore, client: redis.asyncio.Redis) -> None:
        with pytest.raises(OutdatedError, match="revision == 1 is not the newest: the store has n"):
            await versions.append(SECOND, ())
        await versions.append(FIRST, ())
        others = [SECOND.model_copy(update={"by": f"user{n}"}) for n in range(20)]
        done = await asyncio.gather(
            *(versions.append(other, (other.by,)) for other in others), return_exceptions=True
        )
        assert sorted(map(str, done)).count("None") == 1
        newest = await versions.newest()
        assert newest is not None
        [winner] = [other for other, what in zip(others, done, strict=True) if what is None]
        assert newest == winner
        refused = next(what for what in done if what is not None)
        assert isinstance(refused, OutdatedError)
        assert str(refused) == (
            f"revision == 1 is not the newest: revision 2 was made by {winner.by!r} at 2026-01-01 "
            "00:00:00 UTC; read GET /v1/experiments, and send the change again with the revision "
            "it is made from"
        )
        assert refused.members == {
            "revision": 2, "at": "2026-01-01T00:00:00Z", "by": winner.by, "note": "why not"
        }  # fmt: skip
        assert [change.by for change in await versions.audit(100)] == [winner.by, "file"]
        assert await client.hget(KEY, keys.TOPIC) == b"2"

    with_versions(store, use)


def test_old_versions_and_changes_make_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_VERSIONS", 2)
    monkeypatch.setattr(keys, "MAX_CHANGES", 3)

    async def use(versions: VersionStore, client: redis.asyncio.Redis) -> None:
        version = FIRST
        for _ in range(5):
            await versions.append(version, ())
            version = version.next(version.config, at=NOW, by="ann")
        assert sorted(await client.hkeys(keys.VERSIONS_KEY)) == [b"4", b"5"]
        assert [change.revision for change in await versions.audit(10)] == [5, 4, 3]
        with pytest.raises(
            UnknownVersionError, match=r"no version of revision 3; the newest is 5, and the last 2 "
        ):
            await versions.version(3)

    with_versions(store, use)


def test_a_version_of_another_release(store: Store) -> None:
    async def use(versions: VersionStore, client: redis.asyncio.Redis) -> None:
        await versions.append(FIRST, ())
        packed = zlib.compress(b'{"revision": "x"}')
        await client.hset(keys.NEWEST_KEY, "version", packed)
        with pytest.raises(
            ExperimentError, match=r"cannot be read \(revision: Input should be a v"
        ):
            await versions.newest()

    with_versions(store, use)
