"""Batching without a timer: what was asked for while the worker was busy runs together next.

Nobody waits for company: a single question runs at once. Under load the batches grow by themselves,
because more comes in while one runs (group commit).
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")


class Batcher(Generic[Question, Reply]):
    """Hands questions to a function in batches, one batch at a time, in the order they came."""

    def __init__(
        self, run: Callable[[Sequence[Question]], Awaitable[Sequence[Reply]]], max_size: int
    ) -> None:
        """Run with `run`, which gives one reply a question, on at most `max_size` of them."""
        self._run = run
        self._max_size = max_size
        self._waiting: deque[tuple[Question, asyncio.Future[Reply]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Questions that wait for the running batch to end."""
        return len(self._waiting)

    async def submit(self, question: Question) -> Reply:
        """The reply to one question.

        Raises:
            Exception: what the run of its batch raised.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None:
            # A task starts in the next turn of the loop, so what arrived in this turn goes along.
            # It works for several requests, so it carries the context of none.
            self._task = asyncio.create_task(self._drain(), context=contextvars.Context())
        return await future

    async def _drain(self) -> None:
        try:
            while batch := self._next():
                try:
                    replies = await self._run([question for question, _ in batch])
                except Exception as error:  # raised to everyone who asked, not here
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), reply in zip(batch, replies, strict=True):
                        if not future.done():
                            future.set_result(reply)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Question, "asyncio.Future[Reply]"]]:
        batch: list[tuple[Question, asyncio.Future[Reply]]] = []
        while self._waiting and len(batch) < self._max_size:
            question, future = self._waiting.popleft()
            if not future.done():  # who went away is not worked for
                batch.append((question, future))
        return batch
