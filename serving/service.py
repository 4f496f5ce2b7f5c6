"""Service: everything a running server holds, opened and closed together."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis.asyncio

from abtest.archive import archive
from abtest.event_log import EventLog
from abtest.experiment import ExperimentConfig, load_config
from abtest.splitter import Splitter
from serving.bundles.catalog import choose_device, history_length, load_catalog
from serving.cascade.batch import Batch
from serving.cascade.cascade import Cascade, wall_clock_us
from serving.cascade.funnel import Funnel
from serving.feedback import Feedback
from serving.settings import Settings
from serving.state.feature_store import FeatureStore
from serving.state.store import Store
from serving.telemetry.metrics import Metrics

WATCH_INTERVAL_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What the routes use."""

    config: ExperimentConfig
    catalog: Mapping[str, Funnel]
    store: redis.asyncio.Redis
    features: FeatureStore
    cascade: Cascade
    batch: Batch
    feedback: Feedback


@asynccontextmanager
async def open_service(settings: Settings, metrics: Metrics) -> AsyncIterator[Service]:
    """Load experiments and bundles, open the store, keep it alive and archive its events.

    Raises:
        ExperimentError: the experiments are missing or wrong, or name a bundle that is not there.
        BundleError: a bundle the experiments name is damaged.
        StoreError: the store cannot be opened.
        ValueError: the device is not there.
    """
    config = load_config(settings.experiments_path)
    catalog = load_catalog(settings.bundles_dir, config, choose_device(settings.device))
    with await asyncio.to_thread(Store, settings) as store:
        async with store.client() as client:
            features = FeatureStore(client, history_length(catalog))
            log = EventLog(client)
            stopping = asyncio.Event()
            tasks = [
                asyncio.create_task(_every(WATCH_INTERVAL_S, stopping, _Watch(store, metrics))),
            ]
            if settings.worker_number == 0:
                archiver = _Archiver(store, settings, metrics)
                tasks.append(
                    asyncio.create_task(_every(settings.archive_interval_s, stopping, archiver))
                )
            try:
                cascade = Cascade(
                    splitter=Splitter(config),
                    catalog=catalog,
                    features=features,
                    log=log,
                    metrics=metrics,
                    clock=wall_clock_us,
                    max_batch=settings.max_batch,
                    max_under_way=settings.max_under_way,
                )
                yield Service(
                    config=config,
                    catalog=catalog,
                    store=client,
                    features=features,
                    cascade=cascade,
                    batch=Batch(
                        cascade.recommend,
                        abreast=min(settings.max_batch, settings.max_under_way),
                        deadline_ms=settings.deadline_ms,
                    ),
                    feedback=Feedback(log=log, metrics=metrics, clock=wall_clock_us),
                )
            finally:
                stopping.set()
                await asyncio.gather(*tasks)


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
