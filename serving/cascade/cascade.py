"""Cascade: one request from the split to the logged answer."""

import time
from collections.abc import Callable, Mapping

from abtest.event_log import EventLog
from abtest.events import RankingEvent, new_event_id
from abtest.splitter import Split, Splitter
from serving.api.schemas import (
    AssignedExperiment,
    RecommendedItem,
    RecommendRequest,
    RecommendResponse,
    StageExplanation,
)
from serving.cascade.funnel import Funnel
from serving.cascade.policy import parse_policy
from serving.cascade.query import Outcome, Query
from serving.state.feature_store import FeatureStore
from serving.telemetry.metrics import Metrics
from training.features import to_ts_us

Clock = Callable[[], int]
"""Current time in microseconds since the Unix epoch."""


def wall_clock_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


class Cascade:
    """Answers recommendation requests."""

    def __init__(
        self,
        *,
        splitter: Splitter,
        catalog: Mapping[str, Funnel],
        features: FeatureStore,
        log: EventLog,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Answer with the bundles of `catalog`, as `splitter` decides."""
        self._splitter = splitter
        self._catalog = catalog
        self._features = features
        self._log = log
        self._metrics = metrics
        self._clock = clock

    async def recommend(self, request: RecommendRequest) -> RecommendResponse:
        """Answer a request; its ranking event is in the log when this returns.

        Raises:
            redis.RedisError: the store is away, so that the answer could not be logged.
        """
        started_ns = time.perf_counter_ns()
        split = self._splitter.assign(request.user_id)
        split_ns = time.perf_counter_ns()
        user = await self._features.fetch(request.user_id)
        fetched_ns = time.perf_counter_ns()
        policy = parse_policy(split.params)
        funnel = self._catalog[policy.bundle]
        now_us = self._clock()
        query = Query(
            request_id=new_event_id(),
            user=user,
            context=request.context,
            exclude=request.exclude,
            num=request.num,
            ts_us=to_ts_us(request.ts) if request.ts else now_us,
            policy=policy,
            explain=request.explain,
        )
        [outcome] = funnel.run([query])
        latency_us = {
            "split": (split_ns - started_ns) // 1000,
            "features": (fetched_ns - split_ns) // 1000,
            **outcome.latency_us,
            "total": (time.perf_counter_ns() - started_ns) // 1000,
        }
        event = RankingEvent(
            event_id=query.request_id,
            event_ts_us=query.ts_us,
            ingest_ts_us=now_us,
            request_id=query.request_id,
            unit=request.user_id,
            experiments=split.assignments,
            config_sha=split.config_sha,
            bundle=funnel.bundle,
            context=request.context,
            item_ids=outcome.item_ids,
            scores=outcome.scores,
            stages=outcome.stages,
            latency_us=latency_us,
            degraded=outcome.degraded,
        )
        await self._log.append_ranking(event)
        self._metrics.observe_answer(funnel.bundle, latency_us, outcome.degraded)
        return _response(event, split, outcome, explain=request.explain)


def _response(
    event: RankingEvent, split: Split, outcome: Outcome, *, explain: bool
) -> RecommendResponse:
    return RecommendResponse(
        request_id=event.request_id,
        items=tuple(
            RecommendedItem(item_id=item_id, position=position, score=score)
            for position, (item_id, score) in enumerate(
                zip(outcome.item_ids, outcome.scores, strict=True)
            )
        ),
        experiments=tuple(
            AssignedExperiment(layer=a.layer, key=a.key, revision=a.revision, variant=a.variant)
            for a in split.assignments
        ),
        bundle=event.bundle,
        degraded=event.degraded,
        stages=tuple(
            StageExplanation(
                name=s.name, n_in=s.n_in, n_out=s.n_out, latency_us=event.latency_us[s.name]
            )
            for s in outcome.stages
        )
        if explain
        else None,
    )
