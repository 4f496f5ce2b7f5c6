"""Service: everything a running server holds, opened and closed together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import redis.asyncio

from abtest.log.event_log import PATIENT_TIMEOUT_S, Commands, EventLog
from abtest.log.journal import open_journal
from serving.api.signature import open_signer
from serving.assortment import Assortment
from serving.background import erasing
from serving.background.parent import background
from serving.bundles.opening import Bundles, open_bundles
from serving.bundles.start import load_from_disk
from serving.cascade.admission import Admission
from serving.cascade.batch import Batch
from serving.cascade.cascade import Cascade, wall_clock_us
from serving.cascade.line import Line
from serving.erasure import Erasures
from serving.feedback import Feedback
from serving.settings import Settings
from serving.state.control import Control
from serving.state.feature_store import FeatureStore
from serving.state.health import Health
from serving.state.items import TOPIC, ItemStore
from serving.state.periodic import periodically
from serving.state.sticky import StickyStore
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
    erasures: Erasures
    health: Health


@asynccontextmanager
async def open_service(settings: Settings, metrics: Metrics) -> AsyncIterator[Service]:
    """Load experiments and bundles, open the store, keep it and the background process alive.

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
            _in_background(settings, metrics),
        ):
            features = FeatureStore(quick, client, lambda: bundles.lineup.history_length)
            signer = open_signer(settings.data_dir, settings.signing_key)
            health = Health(quick, features, log, metrics)
            stopping = asyncio.Event()
            tasks = [
                asyncio.create_task(_every(WATCH_INTERVAL_S, stopping, _Watch(store, metrics))),
                asyncio.create_task(periodically(HEALTH_INTERVAL_S, stopping, health.observe)),
            ]
            control, admission = Control(client), Admission(settings.max_under_way)
            tasks.append(asyncio.create_task(control.run(stopping)))
            assortment = Assortment(
                ItemStore(client, wall_clock_us), lambda: bundles.fleet.funnels(), metrics
            )
            erasures = Erasures(client, features, log, wall_clock_us)
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
                    control.follow(erasing.TOPIC, erasures.apply)
                    await control.catch_up()
                    cascade = Cascade(
                        bundles=bundles,
                        features=features,
                        log=log,
                        metrics=metrics,
                        clock=wall_clock_us,
                        admission=admission,
                        sticky=StickyStore(quick, metrics),
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
                        erasures=erasures,
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


@asynccontextmanager
async def _in_background(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """The background process, which is the first worker's to start; there is one a server."""
    if settings.worker_number > 0:
        yield
        return
    async with background(settings, metrics):
        yield


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
