"""Service: everything a running server holds, opened and closed together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import redis.asyncio

from abtest.log.archive import archive
from abtest.log.event_log import PATIENT_TIMEOUT_S, Commands, EventLog
from abtest.log.journal import open_journal
from serving.api.signature import open_signer
from serving.assortment import Assortment
from serving.bundles.opening import Bundles, load_from_disk, open_bundles
from serving.cascade.admission import Admission
from serving.cascade.batch import Batch
from serving.cascade.cascade import Cascade, wall_clock_us
from serving.cascade.line import Line
from serving.feedback import Feedback
from serving.settings import Settings
from serving.state.control import Control
from serving.state.feature_store import FeatureStore
from serving.state.health import Health
from serving.state.items import TOPIC, ItemStore
from serving.state.periodic import periodically
from serving.state.store import Store
from serving.telemetry.metrics import Metrics

WATCH_INTERVAL_S = 0.5
HEALTH_INTERVAL_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What the routes use."""

    bundles: Bundles
    assortment: Assortment
    store: redis.asyncio.Redis
    features: FeatureStore
    cascade: Cascade
    batch: Batch
    feedback: Feedback
    health: Health


@asynccontextmanager
async def open_service(settings: Settings, metrics: Metrics) -> AsyncIterator[Service]:
    """Load experiments and bundles, open the store, keep it alive and archive its events.

    Raises:
        ExperimentError: the experiments are missing or wrong, or name a bundle that is not there.
        BundleError: a bundle the experiments name is damaged.
        StoreError: the embedded store cannot be started, or the named one refuses us.
        JournalError: the journal's folder cannot be used.
        SignatureError: there is no usable signing key.
        ValueError: the device is not there.
    """
    disk = load_from_disk(settings, metrics)
    with await asyncio.to_thread(Store, settings, may_be_away=True) as store:
        async with (
            store.client() as client,
            aclosing(store.quick()) as quick,
            store.client(PATIENT_TIMEOUT_S) as patient,
            _open_log(settings, quick, patient, metrics) as log,
        ):
            features = FeatureStore(quick, client, lambda: bundles.lineup.history_length)
            signer = open_signer(settings.data_dir, settings.signing_key)
            health = Health(quick, features, log, metrics)
            stopping = asyncio.Event()
            tasks = [
                asyncio.create_task(_every(WATCH_INTERVAL_S, stopping, _Watch(store, metrics))),
                asyncio.create_task(periodically(HEALTH_INTERVAL_S, stopping, health.observe)),
            ]
            if settings.worker_number == 0:
                archiver = _Archiver(store, settings, metrics)
                tasks.append(
                    asyncio.create_task(_every(settings.archive_interval_s, stopping, archiver))
                )
            control, admission = Control(client), Admission(settings.max_under_way)
            tasks.append(asyncio.create_task(control.run(stopping)))
            assortment = Assortment(
                ItemStore(client, wall_clock_us), lambda: bundles.fleet.funnels(), metrics
            )
            try:
                async with open_bundles(
                    disk,
                    client,
                    control,
                    catch_up=assortment.catch_up,
                    make_line=lambda funnel: Line(funnel, settings.max_batch),
                    busy=lambda: admission.under_way > 0,
                    metrics=metrics,
                ) as bundles:
                    control.follow(TOPIC, assortment.apply)
                    await control.catch_up()
                    cascade = Cascade(
                        bundles=bundles,
                        features=features,
                        log=log,
                        metrics=metrics,
                        clock=wall_clock_us,
                        admission=admission,
                        sign=signer.sign,
                    )
                    yield Service(
                        bundles=bundles,
                        assortment=assortment,
                        store=client,
                        features=features,
                        cascade=cascade,
                        batch=Batch(
                            cascade.recommend,
                            abreast=min(settings.max_batch, settings.max_under_way),
                            deadline_ms=settings.deadline_ms,
                        ),
                        feedback=Feedback(
                            log=log, metrics=metrics, clock=wall_clock_us, genuine=signer.check
                        ),
                        health=health,
                    )
            finally:
                stopping.set()
                await asyncio.gather(*tasks)


@asynccontextmanager
async def _open_log(
    settings: Settings, quick: Commands, patient: redis.asyncio.Redis, metrics: Metrics
) -> AsyncIterator[EventLog]:
    def count(outcome: str, number: int) -> None:
        metrics.log_records.labels(outcome).inc(number)

    journal = open_journal(settings.journal_dir)
    log = EventLog(journal, quick, patient, count=count, late=metrics.observe_outcome)
    async with log.running():
        yield log


class _Watch:
    """Starts the embedded Valkey again when it died."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def __call__(self) -> None:
        if self._store.revive():
            logger.error("the embedded Valkey had died and was started again")
            self._metrics.store_restarts.inc()


class _Archiver:
    """Moves events from the stream into files; what fails stays in the stream for the next run."""

    def __init__(self, store: Store, settings: Settings, metrics: Metrics) -> None:
        self._store = store
        self._folder = settings.events_dir
        self._metrics = metrics

    def __call__(self) -> None:
        with self._metrics.archive_failures.count_exceptions(), self._store.sync_client() as client:
            self._metrics.archived.inc(archive(client, self._folder))


async def _every(interval_s: float, stopping: asyncio.Event, step: Callable[[], None]) -> None:
    while True:
        try:
            await asyncio.wait_for(stopping.wait(), interval_s)
        except TimeoutError:
            try:
                await asyncio.to_thread(step)
            except Exception:  # a background step must not end the server: it is tried again
                logger.exception("%s failed; next try in %g s", type(step).__name__, interval_s)
        else:
            return
