"""Group commit: everyone who waits for the disk shares its next sync."""

import asyncio
from collections.abc import Callable


class GroupCommit:
    """Runs a blocking sync in a thread, one at a time, for all who wait together."""

    def __init__(self, sync: Callable[[], None]) -> None:
        """Sync with `sync`."""
        self._sync = sync
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Return when a sync that began after this call has ended.

        Raises:
            Exception: what the sync raised.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await future

    async def drain(self) -> None:
        """Return when no sync is under way."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                try:
                    await asyncio.to_thread(self._sync)
                except Exception as error:  # raised to everyone who waits, not here
                    for future in waiting:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for future in waiting:
                        if not future.done():
                            future.set_result(None)
        finally:
            self._task = None
