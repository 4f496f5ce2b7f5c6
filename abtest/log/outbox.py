"""Outbox: brings records to the store, in the order of the journal, each once.

While all is well, records go to the store straight from memory, all that wait in one round trip.
When the store fails they stay in the journal, and the outbox is `behind`: everything that the store
does not have for sure is then read from the journal and sent again, before anything new. What is
sent twice counts once, because the store knows each record by its key.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis.exceptions import RedisError

from abtest.log.journal import Journal
from abtest.log.record import Record, unpack
from abtest.log.stream import EventStream, Identity, Settled

MAX_BATCH = 256
_CHUNK_BYTES = 256 << 10

logger = logging.getLogger(__name__)

Taken = asyncio.Future[list[bool] | None]
"""For each record whether it was new to the store; None if the store did not take them now."""


class _Parcel(NamedTuple):
    records: Sequence[Record]
    end: int | None
    taken: Taken


class Outbox:
    """Sends the records of one journal; used from one event loop."""

    def __init__(
        self, journal: Journal, stream: EventStream, count_resent: Callable[[int], None]
    ) -> None:
        """Send to a stream; nothing is sent directly before the first `catch_up`.

        Args:
            journal: whose records are sent.
            stream: of the store.
            count_resent: told how many records the store got late, from the journal.
        """
        self._journal = journal
        self._stream = stream
        self._count_resent = count_resent
        self._parcels: deque[_Parcel] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._sent = journal.advanced
        self._identity: Identity | None = None
        self._turn = asyncio.Lock()
        self._resending = False
        self._lapse = 0
        """Counts the times the store failed, so that what was sent before one is told apart."""
        self.fell_behind = asyncio.Event()
        self.fell_behind.set()

    @property
    def behind(self) -> bool:
        """Whether records of the journal wait to be sent again."""
        return self.fell_behind.is_set() or self._resending

    def put(self, records: Sequence[Record], end: int | None) -> Taken:
        """Send records that were just appended to the journal.

        Args:
            records: in order.
            end: position after them in the journal; None if the journal did not take them.
        """
        taken: Taken = asyncio.get_running_loop().create_future()
        if self.fell_behind.is_set():
            taken.set_result(None)
            return taken
        self._parcels.append(_Parcel(records, end, taken))
        if self._sender is None:
            # A task starts in the next turn of the loop: what comes in this turn goes along.
            self._sender = asyncio.create_task(self._send())
        return taken

    async def drain(self) -> None:
        """Return when nothing that was put before waits in memory."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    async def catch_up(self) -> None:
        """Send everything in the journal that the store does not have for sure.

        Raises:
            redis.RedisError: the store is away or refuses; the rest is sent the next time.
            JournalError: the journal cannot be read.
        """
        self._identity = await self._stream.identity()
        lapse, self._sent = self._lapse, self._journal.advanced
        while lapse == self._lapse:
            packed, position = self._journal.read(self._sent, _CHUNK_BYTES)
            last = position == self._journal.end
            if last:
                self._resending = True
                # What comes from now on follows directly; waiting for a pause might never end.
                self.fell_behind.clear()
            try:
                async with self._turn:
                    await self._resend(packed, patient=not last)
            except BaseException as error:
                if last:
                    self._fall_behind(str(error))
                raise
            finally:
                self._resending = False
            if lapse == self._lapse:
                self._sent = position
            if last:
                return

    async def settle(self) -> None:
        """Let the journal forget what the store has on its disk.

        Raises:
            redis.RedisError: the store is away.
            JournalError: the journal cannot note it.
        """
        sent, lapse = self._sent, self._lapse
        if sent == self._journal.advanced or self._identity is None:
            return
        settled = await self._stream.settled(self._identity)
        if settled is Settled.UNKNOWN:
            self._fall_behind(settled.value)
        elif settled is Settled.SAFE and lapse == self._lapse:
            self._journal.advance(sent)

    async def _resend(self, packed: Sequence[bytes], *, patient: bool) -> None:
        if packed:
            records = [unpack(record) for record in packed]
            self._count_resent(sum(await self._stream.append(records, patient=patient)))

    async def _send(self) -> None:
        parcels: list[_Parcel] = []
        try:
            while parcels := self._next():
                async with self._turn:
                    if self.fell_behind.is_set():
                        return
                    await self._send_directly(parcels)
        except RedisError as error:
            self._fall_behind(str(error))
        except BaseException as error:
            self._fall_behind(repr(error))
            raise
        finally:
            self._sender = None
            for parcel in (*parcels, *self._parcels):
                if not parcel.taken.done():
                    parcel.taken.set_result(None)
            self._parcels.clear()

    async def _send_directly(self, parcels: Sequence[_Parcel]) -> None:
        lapse = self._lapse
        records = [record for parcel in parcels for record in parcel.records]
        taken = await self._stream.append(records)
        ends = [parcel.end for parcel in parcels if parcel.end is not None]
        if ends and lapse == self._lapse:
            self._sent = ends[-1]
        _deliver(parcels, taken)

    def _next(self) -> list[_Parcel]:
        parcels: list[_Parcel] = []
        size = 0
        while self._parcels and size < MAX_BATCH:
            parcels.append(self._parcels.popleft())
            size += len(parcels[-1].records)
        return parcels

    def _fall_behind(self, reason: str) -> None:
        self._lapse += 1
        # A store that failed may have lost what it took last.
        self._sent = self._journal.advanced
        if not self.fell_behind.is_set():
            logger.warning("events stay in %s for now: %s", self._journal.folder, reason)
            self.fell_behind.set()


def _deliver(parcels: Sequence[_Parcel], taken: list[bool]) -> None:
    at = 0
    for parcel in parcels:
        if not parcel.taken.done():
            parcel.taken.set_result(taken[at : at + len(parcel.records)])
        at += len(parcel.records)
