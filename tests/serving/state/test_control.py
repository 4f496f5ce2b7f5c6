"""Changes reach every worker, once, and one that fails stops no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serving.settings import Settings
from serving.state.control import MAX_RETRY_S, POLL_INTERVAL_S, Control, announce
from serving.state.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(Settings(data_dir=Path(tmp_path_factory.mktemp("control")))) as opened:
        yield opened


def with_client(store: Store, use: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
    async def run() -> None:
        async with store.client() as client:
            await client.flushall()
            await use(client)

    asyncio.run(run())


async def change(client: redis.asyncio.Redis, topic: str) -> None:
    pipeline = client.pipeline(transaction=True)
    announce(pipeline, topic)
    await pipeline.execute()


class Follower:
    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.error = error

    async def apply(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


def test_each_change_is_applied_once_by_every_worker(store: Store) -> None:
    async def use(client: redis.asyncio.Redis) -> None:
        followers = [Follower(), Follower()]
        workers = [Control(client) for _ in followers]
        for worker, follower in zip(workers, followers, strict=True):
            worker.follow("a", follower.apply)
            await worker.catch_up()
        assert [f.calls for f in followers] == [0, 0]
        await change(client, "b")
        await change(client, "a")
        await change(client, "a")
        for _ in range(2):
            for worker in workers:
                await worker.catch_up()
        assert [f.calls for f in followers] == [1, 1]

    with_client(store, use)


def test_a_change_made_while_it_is_applied_is_applied_again(store: Store) -> None:
    async def use(client: redis.asyncio.Redis) -> None:
        follower = Follower()

        async def apply() -> None:
            if follower.calls == 0:
                await change(client, "a")
            await follower.apply()

        control = Control(client)
        control.follow("a", apply)
        await change(client, "a")
        for _ in range(3):
            await control.catch_up()
        assert follower.calls == 2

    with_client(store, use)


def test_a_slow_change_runs_alone_and_holds_up_no_other(store: Store) -> None:
    async def use(client: redis.asyncio.Redis) -> None:
        done, quick = asyncio.Event(), Follower()
        slow = Follower()

        async def wait() -> None:
            await slow.apply()
            await done.wait()

        control = Control(client)
        control.follow("slow", wait)
        control.follow("quick", quick.apply)
        await change(client, "slow")
        await control.poll()
        await asyncio.sleep(0)
        await change(client, "slow")
        await change(client, "quick")
        await control.poll()
        await asyncio.sleep(0)
        assert (slow.calls, quick.calls) == (1, 1)
        done.set()
        await control.settle()
        await control.catch_up()
        assert slow.calls == 2

    with_client(store, use)


def test_a_change_that_fails_is_tried_again_ever_more_seldom(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(client: redis.asyncio.Redis) -> None:
        now_s = 0.0
        broken, other = Follower(OSError("full")), Follower()
        control = Control(client, lambda: now_s)
        control.follow("a", broken.apply)
        control.follow("b", other.apply)
        await change(client, "a")
        await change(client, "b")
        waits = []
        for calls in range(1, 12):
            while broken.calls < calls:
                await control.catch_up()
                now_s += POLL_INTERVAL_S / 2
            waits.append(now_s)
        gaps = [later - sooner for sooner, later in pairwise(waits)]
        assert gaps[0] == pytest.approx(POLL_INTERVAL_S, abs=0.11)
        assert gaps[1] == pytest.approx(2 * POLL_INTERVAL_S, abs=0.11)
        assert gaps[-1] == pytest.approx(MAX_RETRY_S, abs=0.11)
        assert other.calls == 1
        broken.error = None
        now_s += MAX_RETRY_S
        await control.catch_up()
        await control.catch_up()
        assert broken.calls == 12

    with caplog.at_level(logging.ERROR):
        with_client(store, use)
    assert "the change of a cannot be applied; it is tried again in 0.2 s" in caplog.text


def test_store_that_is_away_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def use() -> None:
        nobody = tmp_path / "nobody.sock"
        never = Retry(NoBackoff(), 0)
        async with redis.asyncio.Redis(unix_socket_path=str(nobody), retry=never) as client:
            control = Control(client)
            await control.catch_up()
            with pytest.raises(redis.ConnectionError):
                await control.poll()

    asyncio.run(use())
    assert "what changed is applied when it is back" in caplog.text


def test_it_polls_until_it_is_stopped(store: Store) -> None:
    async def use(client: redis.asyncio.Redis) -> None:
        stopping, applied = asyncio.Event(), asyncio.Event()
        control = Control(client)

        async def apply() -> None:
            applied.set()

        control.follow("a", apply)
        running = asyncio.create_task(control.run(stopping))
        await change(client, "a")
        await asyncio.wait_for(applied.wait(), 10)
        stopping.set()
        await running

    with_client(store, use)
