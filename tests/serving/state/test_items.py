"""What was put about items, in a real store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio

from serving.state.control import KEY
from serving.state.items import TOPIC, Changes, ItemChange, ItemState, ItemStore
from serving.state.valkey import EmbeddedValkey

Test = Callable[[ItemStore, ItemStore, redis.asyncio.Redis], Coroutine[None, None, None]]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(Path(tmp_path_factory.mktemp("items")))
    yield server
    server.close()


@pytest.fixture
def with_stores(valkey: EmbeddedValkey) -> Callable[[Test], None]:
    """Runs a test with two workers' stores, at time 1000, 2000 and so on."""

    @asynccontextmanager
    async def client() -> AsyncIterator[redis.asyncio.Redis]:
        async with redis.asyncio.Redis(unix_socket_path=str(valkey.socket_path)) as opened:
            yield opened

    def run(test: Test) -> None:
        async def body() -> None:
            async with client() as one, client() as other:
                await one.flushall()
                now_us = iter(range(1000, 1_000_000, 1000))
                await test(ItemStore(one, now_us.__next__), ItemStore(other, lambda: 0), one)

        asyncio.run(body())

    return run


def test_changes_are_merged_and_numbered(with_stores: Callable[[Test], None]) -> None:
    async def test(store: ItemStore, _: ItemStore, client: redis.asyncio.Redis) -> None:
        big = 10**15 - 1
        first = [
            ItemChange("a", price_micros=big, fields={"colour": "red", "size": None}),
            ItemChange("b", available=False),
            ItemChange("a", popularity=2.5),
        ]
        assert await store.put(first) == ("a", "b")
        merged = ItemState("a", 1002, 1000, None, big, 2.5, {"colour": "red", "size": None})
        assert await store.get("a") == merged
        assert await store.put([ItemChange("a", True, 0, fields={"colour": None})]) == ()
        later = ItemState("a", 2000, 1000, True, 0, 2.5, {"colour": None, "size": None})
        assert await store.get("a") == later
        assert await store.get("nobody") is None
        assert await client.hget(KEY, TOPIC) == b"2"

    with_stores(test)


def test_changes_are_read_in_pages_from_where_one_was(with_stores: Callable[[Test], None]) -> None:
    async def test(store: ItemStore, _: ItemStore, __: redis.asyncio.Redis) -> None:
        await store.put([ItemChange(f"i{n}") for n in range(5)])
        page = await store.changed_since(0, 3)
        assert [s.item_id for s in page.states] == ["i0", "i1", "i2"]
        assert page.revision == 1002
        await store.put([ItemChange("i3"), ItemChange("i0")])
        rest = await store.changed_since(page.revision, 10)
        assert [s.item_id for s in rest.states] == ["i4", "i3", "i0"]
        assert await store.changed_since(rest.revision, 10) == Changes((), rest.revision)

    with_stores(test)


def test_a_clock_that_stands_still_makes_no_revision_twice(
    with_stores: Callable[[Test], None],
) -> None:
    async def test(store: ItemStore, other: ItemStore, _: redis.asyncio.Redis) -> None:
        await store.put([ItemChange("a"), ItemChange("b")])
        await other.put([ItemChange("c")])  # its clock is at 0
        state = await store.get("c")
        assert state is not None
        assert state.revision == 1002

    with_stores(test)


def test_workers_that_put_at_once_lose_nothing(with_stores: Callable[[Test], None]) -> None:
    async def test(store: ItemStore, other: ItemStore, _: redis.asyncio.Redis) -> None:
        new = await asyncio.gather(
            *(
                each.put([ItemChange("shared", fields={f"{name}{n}": "x"}), ItemChange(f"{n}")])
                for n in range(20)
                for name, each in (("mine", store), ("theirs", other))
            )
        )
        shared = await store.get("shared")
        assert shared is not None
        assert len(shared.fields) == 40
        assert sorted(i for ids in new for i in ids) == sorted(
            ["shared", *(str(n) for n in range(20))]
        )
        everything = (await store.changed_since(0, 1000)).states
        assert len({s.revision for s in everything}) == len(everything) == 21

    with_stores(test)
