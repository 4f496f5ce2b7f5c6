"""Opening: what was loaded from disk serves, and is kept at what is chosen meanwhile."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import redis
import redis.asyncio

from abtest.split.experiment import ExperimentError
from serving.bundles.catalog import Catalog
from serving.bundles.choice import TOPIC, ChoiceStore
from serving.bundles.fleet import CatchUp, Fleet
from serving.bundles.lineup import Lineup
from serving.bundles.recording import Recording
from serving.bundles.shadow import FLUSH_INTERVAL_S, Shadows
from serving.bundles.start import OnDisk, experiments_memory
from serving.bundles.tally_store import TallyStore
from serving.cascade.funnel import Funnel
from serving.cascade.line import Line
from serving.cascade.query import Outcome, Query
from serving.cascade.rerank.rulebook import POLL_INTERVAL_S as RULES_INTERVAL_S
from serving.experiments.file import POLL_INTERVAL_S, ExperimentsFile
from serving.experiments.register import Register
from serving.experiments.store import TOPIC as EXPERIMENTS_TOPIC
from serving.experiments.store import VersionStore
from serving.state.control import Control
from serving.state.periodic import periodically
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

SWEEP_INTERVAL_S = 0.2

logger = logging.getLogger(__name__)


class Bundles(NamedTuple):
    """What the routes and the cascade use."""

    catalog: Catalog
    fleet: Fleet
    register: Register
    experiments_file: ExperimentsFile
    shadows: Shadows
    recording: Recording

    @property
    def lineup(self) -> Lineup:
        """What a request that begins now is answered by, from its start to its end."""
        return self.catalog.lineup

    def answered(self, name: str, query: Query, outcome: Outcome) -> None:
        """Take note of a request that the bundle of a name answered."""
        self.recording.note(name, query, outcome)
        self.shadows.offer(name, query, outcome)


@asynccontextmanager
async def open_bundles(
    disk: OnDisk,
    client: redis.asyncio.Redis,
    control: Control,
    *,
    catch_up: CatchUp,
    make_line: Callable[[Funnel], Line],
    busy: Callable[[], bool],
    metrics: Metrics,
) -> AsyncIterator[Bundles]:
    """Serve what was loaded, and follow what is chosen.

    Args:
        disk: what was loaded.
        client: of the store.
        control: tells of choices that other workers made.
        catch_up: brings a funnel's items to their state of now.
        make_line: the line of requests in front of a funnel.
        busy: whether requests are under way in this worker.
        metrics: counts what happens.
    """
    store, recording = ChoiceStore(client), Recording()
    fleet = Fleet(disk.loader, catch_up, metrics)
    tallies = TallyStore(client, worker=uuid.uuid4().hex)
    shadows = Shadows(fleet, store, tallies, recording, busy=busy, metrics=metrics)
    await _enlist(fleet, disk.funnels.values())
    catalog = Catalog(
        disk.standing.version.config,
        disk.hand_over(),
        disk.choices,
        fleet=fleet,
        store=store,
        shadows=shadows,
        recording=recording,
        make_line=make_line,
        memory=disk.memory,
        metrics=metrics,
    )
    control.follow(TOPIC, catalog.follow)
    register = Register(
        disk.standing,
        store=VersionStore(client),
        served=catalog,
        memory=experiments_memory(disk.experiments_path),
        metrics=metrics,
    )
    control.follow(EXPERIMENTS_TOPIC, register.follow)
    experiments_file = ExperimentsFile(
        disk.experiments_path, register.take_file, metrics, disk.standing.seen
    )
    await _catch_up(register, experiments_file)
    stopping = asyncio.Event()
    tasks = [
        asyncio.create_task(periodically(interval_s, stopping, step))
        for interval_s, step in (
            (POLL_INTERVAL_S, experiments_file.poll),
            (POLL_INTERVAL_S, register.submit),
            (RULES_INTERVAL_S, disk.rulebook.poll),
            (SWEEP_INTERVAL_S, fleet.sweep),
            (FLUSH_INTERVAL_S, shadows.flush),
        )
    ]
    try:
        yield Bundles(catalog, fleet, register, experiments_file, shadows, recording)
    finally:
        stopping.set()
        await asyncio.gather(*tasks)
        await shadows.settle()
        try:
            await shadows.flush()
        except redis.RedisError as error:
            logger.warning("what the shadows found last is lost (%s)", error)


async def _catch_up(register: Register, experiments_file: ExperimentsFile) -> None:
    """Be at the newest experiments before the first request, as far as that can be."""
    try:
        await register.follow()
    except redis.RedisError as error:
        logger.warning("the store is away (%s); newer experiments are followed later", error)
    except (ExperimentError, BundleError) as error:
        logger.error("newer experiments are not in force: %s", error)  # noqa: TRY400
    for _ in range(2):  # an edit is taken up once it was seen twice
        await experiments_file.poll()


async def _enlist(fleet: Fleet, funnels: Iterable[Funnel]) -> None:
    for funnel in funnels:
        try:
            await fleet.enlist(funnel)
        except redis.RedisError as error:  # its items catch up when the store is back
            logger.warning("%s answers with the items of its export (%s)", funnel.bundle, error)
