"""Cascade: one request from what is known of the user to the logged answer."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from abtest.events import RankingEvent, new_event_id
from abtest.log.event_log import EventLog
from abtest.split.experiment import Parameter
from abtest.split.splitter import Split, Splitter
from serving.api.schemas import RecommendRequest
from serving.bundles.lineup import Lineup
from serving.bundles.opening import Bundles
from serving.cascade.admission import Admission, OverloadedError
from serving.cascade.deadline import Deadline
from serving.cascade.interleave import order
from serving.cascade.policy import Policy, parse_policy
from serving.cascade.query import Outcome, Query
from serving.state.feature_store import FeatureStore, UserState
from serving.state.sticky import NOTHING_KEPT, Kept, StickyStore
from serving.telemetry.metrics import Metrics
from training.features import to_ts_us

Clock = Callable[[], int]
"""Current time in microseconds since the Unix epoch."""
MAX_POLICIES = 10_000
"""Combinations of parameters that are kept parsed."""


def wall_clock_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


class Answer(NamedTuple):
    """A `RecommendResponse` as plain data, and the time of each step."""

    body: dict[str, object]
    latency_us: dict[str, int]

    def server_timing(self) -> bytes:
        """The value of the header `Server-Timing` (W3C), in milliseconds."""
        return ", ".join(f"{k};dur={us / 1000:g}" for k, us in self.latency_us.items()).encode()


class Cascade:
    """Answers recommendation requests."""

    def __init__(
        self,
        *,
        bundles: Bundles,
        features: FeatureStore,
        log: EventLog,
        metrics: Metrics,
        clock: Clock,
        admission: Admission,
        sticky: StickyStore,
        sign: Callable[[str], str],
    ) -> None:
        """Answer with the bundles that the experiments choose.

        Args:
            bundles: the experiments and the bundles, as they are at the start of a request.
            features: what is known about users.
            log: that every answer's event is appended to.
            metrics: that every answer is counted in.
            clock: the time of an answer.
            admission: lets requests in or turns them away.
            sticky: what units keep of experiments that must not change it.
            sign: makes a request id of an event id.
        """
        self._bundles = bundles
        self._features = features
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._admission = admission
        self._sticky = sticky
        self._sign = sign
        self._policies: dict[tuple[Parameter, ...], Policy] = {}
        self._policies_sha = ""

    async def recommend(self, request: RecommendRequest, deadline: Deadline) -> Answer:
        """Answer a request; its ranking event is in the log when this returns.

        Where it is not, because the disk is full or the store is away, `degraded` says so.

        Raises:
            OverloadedError: too many requests are under way, or the deadline passed.
        """
        lineup = self._bundles.lineup
        try:
            with self._admission.enter(lineup.request_ms):
                return await self._answered(request, deadline, lineup)
        except OverloadedError as error:
            self._metrics.shed.labels(error.reason).inc()
            raise

    async def _answered(
        self, request: RecommendRequest, deadline: Deadline, lineup: Lineup
    ) -> Answer:
        started_ns = time.perf_counter_ns()
        user, kept = await self._known(request.user_id, lineup.splitter)
        fetched_ns = time.perf_counter_ns()
        now_us = self._clock()
        split = lineup.splitter.assign(
            request.user_id, now_us=now_us, attributes=request.context, kept=kept.variants
        )
        policy = self._policy(split)
        split_ns = time.perf_counter_ns()
        query = _query(request, self._sign(new_event_id()), user, policy, now_us)
        ordered = await order(lineup.lines, query, deadline)
        outcome = ordered.outcome
        ordered_ns = time.perf_counter_ns()
        latency_us = {
            "features": (fetched_ns - started_ns) // 1000,
            "split": (split_ns - fetched_ns) // 1000,
            "wait": (ordered_ns - split_ns) // 1000 - sum(outcome.latency_us.values()),
            **outcome.latency_us,
            "total": (ordered_ns - started_ns) // 1000,
        }
        event = RankingEvent(
            event_id=query.request_id,
            event_ts_us=query.ts_us,
            ingest_ts_us=now_us,
            request_id=query.request_id,
            unit=request.user_id,
            experiments=split.assignments,
            config_sha=split.config_sha,
            bundle="+".join(lineup.lines[name].funnel.bundle for name, _ in ordered.by),
            context=request.context,
            item_ids=outcome.item_ids,
            scores=outcome.scores,
            stages=outcome.stages,
            latency_us=latency_us,
            degraded=(*user.degraded, *kept.degraded, *outcome.degraded),
            teams=ordered.teams,
        )
        if split.keep:
            self._sticky.keep(request.user_id, split.keep)
        degraded = (*event.degraded, *await self._log.append_ranking(event))
        latency_us["log"] = (time.perf_counter_ns() - ordered_ns) // 1000
        self._metrics.observe_answer(event.bundle, split.assignments, latency_us, degraded)
        for name, own in ordered.by:
            self._bundles.answered(name, query, own)
        return Answer(_body(event, split, outcome, degraded), latency_us)

    async def _known(self, user_id: str, splitter: Splitter) -> tuple[UserState, Kept]:
        """What the store knows, in one round trip; what is kept only where anything can be."""
        if not splitter.sticky:
            return await self._features.fetch(user_id), NOTHING_KEPT
        return await asyncio.gather(self._features.fetch(user_id), self._sticky.fetch(user_id))

    def _policy(self, split: Split) -> Policy:
        if split.config_sha != self._policies_sha or len(self._policies) >= MAX_POLICIES:
            self._policies_sha = split.config_sha
            self._policies = {}
        # By their values: the same variants can mean other parameters, held out or in a domain.
        values = tuple(split.params.values())
        policy = self._policies.get(values)
        if policy is None:
            policy = self._policies[values] = parse_policy(split.params)
        return policy


def _query(
    request: RecommendRequest, request_id: str, user: UserState, policy: Policy, now_us: int
) -> Query:
    return Query(
        request_id=request_id,
        user=user,
        context=request.context,
        exclude=request.exclude,
        num=request.num,
        ts_us=to_ts_us(request.ts) if request.ts else now_us,
        policy=policy,
        explain=request.explain,
    )


def _body(
    event: RankingEvent, split: Split, outcome: Outcome, degraded: tuple[str, ...]
) -> dict[str, object]:
    """The `RecommendResponse` of an answer, without the cost of the model."""
    items = [
        {"item_id": item_id, "position": position, "score": score}
        for position, (item_id, score) in enumerate(
            zip(outcome.item_ids, outcome.scores, strict=True)
        )
    ]
    body: dict[str, object] = {
        "request_id": event.request_id,
        "items": items,
        "experiments": [
            {"layer": a.layer, "key": a.key, "revision": a.revision, "variant": a.variant}
            for a in split.assignments
        ],
        "bundle": event.bundle,
        "degraded": degraded,
    }
    if outcome.explanations is not None:
        for item, explanation in zip(items, outcome.explanations, strict=True):
            item["explanation"] = explanation._asdict()
        body["stages"] = [
            {
                "name": stage.name,
                "n_in": stage.n_in,
                "n_out": stage.n_out,
                "latency_us": event.latency_us[stage.name],
            }
            for stage in outcome.stages
        ]
        body["latency_us"] = event.latency_us
    return body
