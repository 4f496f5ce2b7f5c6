"""Quick: one connection to the store for the calls that every request waits for.

A round trip to a store on the same machine takes less than a general client spends on choosing a
connection and guarding each step with a timer of its own. Here commands are written as they come,
replies are handed out in the order of the commands, and there is one timer a command.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import hiredis
import redis

Word = bytes | str | int
Open = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Opens a connection for the protocol that it is given; raises `OSError`."""


class QuickStore:
    """Sends commands over a connection that is opened when it is needed.

    A command whose reply does not come in time costs the connection, because its reply would be
    taken for that of the next one. No command is sent twice.
    """

    def __init__(
        self, open_connection: Open, greeting: Sequence[tuple[Word, ...]], timeout_s: float
    ) -> None:
        """Connect with the first command.

        Args:
            open_connection: to the store.
            greeting: commands that a new connection begins with, such as AUTH and SELECT.
            timeout_s: time for a reply, and for a connection to be opened and greeted.
        """
        self._open = open_connection
        self._greeting = greeting
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def execute_command(self, *words: Word) -> Any:  # noqa: ANN401  # as the store replies
        """The reply to a command: bytes, int, None or a list of them.

        Raises:
            redis.ResponseError: the store refuses it.
            redis.TimeoutError, redis.ConnectionError: it is not known whether it was executed.
        """
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._connect()
        return await connection.call(words)

    async def aclose(self) -> None:
        """Close the connection; commands under way fail."""
        if self._connection is not None:
            self._connection.fail(redis.ConnectionError("the client was closed"))

    async def _connect(self) -> "_Connection":
        async with self._opening:
            if self._connection is not None and not self._connection.lost:
                return self._connection
            connection = _Connection(self._timeout_s)
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._open(lambda: connection)
                for words in self._greeting:
                    await connection.call(words)
            except TimeoutError as error:
                raise redis.TimeoutError("the store cannot be reached in time") from error
            except OSError as error:
                raise redis.ConnectionError(f"the store cannot be reached ({error})") from error
            except redis.RedisError as error:
                connection.fail(error)
                raise
            self._connection = connection
            return connection


class _Connection(asyncio.Protocol):
    """Commands under way, oldest first."""

    def __init__(self, timeout_s: float) -> None:
        self.lost = False
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                future = self._waiting.popleft()
                if not future.done():  # who asked may have gone away
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self.fail(redis.ConnectionError(f"the store sent what is no reply ({error})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(redis.ConnectionError(f"the store closed the connection ({exc})"))

    async def call(self, words: Sequence[Word]) -> Any:  # noqa: ANN401
        assert self._transport is not None
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        self._transport.write(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]
        timer = self._loop.call_later(self._timeout_s, self._expire)
        try:
            reply = await future
        finally:
            timer.cancel()
        if isinstance(reply, hiredis.ReplyError):
            raise redis.ResponseError(str(reply))
        return reply

    def fail(self, error: Exception) -> None:
        """Give up: everything under way ends with an error."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _expire(self) -> None:
        self.fail(redis.TimeoutError(f"the store did not reply within {self._timeout_s:g} s"))
