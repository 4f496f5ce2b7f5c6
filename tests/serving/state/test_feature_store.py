import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.settings import Settings
from serving.state.feature_store import (
    MAX_FAILURES,
    PROBE_AFTER_S,
    REMEMBERED_INTERACTION_IDS,
    FeatureStore,
    UserState,
)
from serving.state.store import Store
from training.features import item_keys

Result = TypeVar("Result")
Use = Callable[[FeatureStore], Awaitable[Result]]
LENGTH = 3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(Settings(data_dir=Path(tmp_path_factory.mktemp("features")))) as opened:
        yield opened


def with_features(store: Store, use: Use[Result]) -> Result:
    async def run() -> Result:
        async with store.client() as client:
            return await use(FeatureStore(client, client, lambda: LENGTH))

    return asyncio.run(run())


def times(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(values, dtype=np.int64)


def test_unknown_user_is_empty(store: Store) -> None:
    state = with_features(store, lambda f: f.fetch("nobody"))
    assert state.features == {}
    assert len(state.history_keys) == len(state.history_ts_us) == 0
    assert state.history_keys.dtype == np.uint64


def test_a_bundle_with_a_longer_history_gets_it(store: Store) -> None:
    length = 2

    async def use() -> list[int]:
        nonlocal length
        async with store.client() as client:
            features = FeatureStore(client, client, lambda: length)
            found = []
            for length in (2, 4):  # noqa: B007  # what the lambda gives
                await features.put("long", {}, item_keys("pqrs"), times(1, 2, 3, 4))
                found.append(len((await features.fetch("long")).history_keys))
            return found

    assert asyncio.run(use()) == [2, 4]


def test_put_replaces_and_keeps_the_newest(store: Store) -> None:
    async def use(features: FeatureStore) -> list[list[int]]:
        await features.put("u", {"old": "x"}, item_keys(["z"]), times(0))
        await features.put("u", {"a": None, "b": "ü"}, item_keys("pqrs"), times(4, 1, 3, 2))
        state = await features.fetch("u")
        assert state.features == {"a": None, "b": "ü"}
        assert state.history_keys.tolist() == item_keys("srp").tolist()
        return [state.history_ts_us.tolist()]

    assert with_features(store, use) == [[2, 3, 4]]


def test_append_trims_and_reads_the_newest(store: Store) -> None:
    async def use(features: FeatureStore) -> tuple[list[int], int]:
        for n in range(20):
            assert await features.append("long", item_keys([str(n)]), times(n), None) == 1
        state = await features.fetch("long")
        return state.history_ts_us.tolist(), state.history_keys.tolist()[-1]

    assert with_features(store, use) == ([17, 18, 19], item_keys(["19"]).tolist()[0])
    with store.sync_client() as client:
        assert client.strlen("user:{long}:history") <= 2 * LENGTH * 16


def test_same_interaction_id_appends_once_for_each_user(store: Store) -> None:
    async def use(features: FeatureStore) -> tuple[list[int], int]:
        counts = [
            await features.append(user, item_keys("ab"), times(1, 2), "order 1")
            for user in ("once", "once", "twice")
        ]
        counts.append(await features.append("once", item_keys("c"), times(3), "order 2"))
        return counts, len((await features.fetch("once")).history_keys)

    assert with_features(store, use) == ([2, 0, 2, 1], 3)


def test_only_the_last_interaction_ids_are_remembered(store: Store) -> None:
    async def use(features: FeatureStore) -> list[int]:
        for n in range(REMEMBERED_INTERACTION_IDS + 1):
            assert await features.append("many", item_keys("a"), times(n), f"id {n}") == 1
        again = [f"id {REMEMBERED_INTERACTION_IDS}", "id 1", "id 0"]
        return [await features.append("many", item_keys("a"), times(1), name) for name in again]

    assert with_features(store, use) == [0, 0, 1]


def test_put_forgets_interaction_ids(store: Store) -> None:
    async def use(features: FeatureStore) -> list[int]:
        first = await features.append("anew", item_keys("a"), times(1), "order 1")
        await features.put("anew", {}, item_keys(""), times())
        return [first, await features.append("anew", item_keys("a"), times(1), "order 1")]

    assert with_features(store, use) == [1, 1]


def test_concurrent_duplicates_append_once(store: Store) -> None:
    async def use(features: FeatureStore) -> int:
        each = (features.append("race", item_keys("a"), times(1), "id") for _ in range(50))
        return sum(await asyncio.gather(*each))

    assert with_features(store, use) == 1


def test_concurrent_reads_share_round_trips(store: Store) -> None:
    async def use(features: FeatureStore) -> list[UserState]:
        await features.put("known", {"a": "x"}, item_keys("p"), times(1))
        return await asyncio.gather(*(features.fetch(f) for f in ["known", "nobody"] * 50))

    def connections(client: redis.Redis) -> int:
        stats: Any = client.info("stats")
        return int(stats["total_connections_received"])

    with store.sync_client() as client:
        before = connections(client)
        states = with_features(store, use)
        # One that writes and reads: the first batch ends before the second is sent.
        assert connections(client) - before == 1
    assert [state.features for state in states] == [{"a": "x"}, {}] * 50


def test_store_that_is_away_is_answered_from_memory_and_looked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    async def run() -> None:
        nonlocal now_s
        away = redis.asyncio.Redis(
            unix_socket_path="/nonexistent", retry=Retry(NoBackoff(), 0), socket_timeout=0.05
        )
        async with store.client() as client, away:
            features = FeatureStore(client, client, lambda: LENGTH, clock=lambda: now_s)
            await features.put("kept", {"a": "x"}, item_keys("p"), times(7))
            fresh = await features.fetch("kept")
            assert (fresh.features, fresh.degraded) == ({"a": "x"}, ())
            monkeypatch.setattr(features, "_quick", away)
            for _ in range(MAX_FAILURES):
                assert not features.away
                stale = await features.fetch("kept")
                assert stale.history_ts_us.tolist() == [7]
                assert (stale.features, stale.degraded) == ({"a": "x"}, ("features_stale",))
            assert features.away
            missing = await features.fetch("never read")
            assert (missing.features, missing.degraded) == ({}, ("features_missing",))
            monkeypatch.setattr(features, "_quick", client)
            assert (await features.fetch("kept")).degraded == ("features_stale",)
            now_s += PROBE_AFTER_S
            assert (await features.fetch("kept")).degraded == ()
            assert not features.away

    asyncio.run(run())


def test_memory_is_bounded_by_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.feature_store.MAX_KNOWN_BYTES", 1000)

    async def use(features: FeatureStore) -> tuple[list[str], int]:
        for user in ("a", "b", "a", "c", "d"):
            await features.fetch(user)
        return list(features._known), features._known_bytes

    assert with_features(store, use) == (["a", "c", "d"], 900)
