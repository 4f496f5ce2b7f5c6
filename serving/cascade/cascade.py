"""Cascade: one request from the split to the logged answer."""

import time
from collections.abc import Callable
from typing import NamedTuple

from abtest.events import RankingEvent, new_event_id
from abtest.log.event_log import EventLog
from abtest.split.splitter import Split
from serving.api.schemas import RecommendRequest
from serving.bundles.opening import Bundles
from serving.cascade.admission import Admission, OverloadedError
from serving.cascade.deadline import Deadline
from serving.cascade.line import Line
from serving.cascade.policy import Policy, parse_policy
from serving.cascade.query import Outcome, Query
from serving.state.feature_store import FeatureStore, UserState
from serving.telemetry.metrics import Metrics
from training.features import to_ts_us

Clock = Callable[[], int]
"""Current time in microseconds since the Unix epoch."""


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
            sign: makes a request id of an event id.
        """
        self._bundles = bundles
        self._features = features
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._admission = admission
        self._sign = sign
        self._policies: dict[tuple[tuple[str, str], ...], Policy] = {}
        self._policies_sha = ""

    async def recommend(self, request: RecommendRequest, deadline: Deadline) -> Answer:
        """Answer a request; its ranking event is in the log when this returns.

        Where it is not, because the disk is full or the store is away, `degraded` says so.

        Raises:
            OverloadedError: too many requests are under way, or the deadline passed.
        """
        started_ns = time.perf_counter_ns()
        lineup = self._bundles.lineup
        split = lineup.splitter.assign(request.user_id)
        policy = self._policy(split)
        line = lineup.lines[policy.bundle]
        split_us = (time.perf_counter_ns() - started_ns) // 1000
        try:
            with self._admission.enter(line.funnel.pace.request_ms):
                return await self._answered(request, deadline, split, policy, line, split_us)
        except OverloadedError as error:
            self._metrics.shed.labels(error.reason).inc()
            raise

    async def _answered(
        self,
        request: RecommendRequest,
        deadline: Deadline,
        split: Split,
        policy: Policy,
        line: Line,
        split_us: int,
    ) -> Answer:
        started_ns = time.perf_counter_ns()
        user = await self._features.fetch(request.user_id)
        fetched_ns = time.perf_counter_ns()
        now_us = self._clock()
        query = _query(request, self._sign(new_event_id()), user, policy, now_us)
        outcome = await line.answer(query, deadline)
        ranked_ns = time.perf_counter_ns()
        latency_us = {
            "split": split_us,
            "features": (fetched_ns - started_ns) // 1000,
            "wait": (ranked_ns - fetched_ns) // 1000 - sum(outcome.latency_us.values()),
            **outcome.latency_us,
            "total": split_us + (ranked_ns - started_ns) // 1000,
        }
        event = RankingEvent(
            event_id=query.request_id,
            event_ts_us=query.ts_us,
            ingest_ts_us=now_us,
            request_id=query.request_id,
            unit=request.user_id,
            experiments=split.assignments,
            config_sha=split.config_sha,
            bundle=line.funnel.bundle,
            context=request.context,
            item_ids=outcome.item_ids,
            scores=outcome.scores,
            stages=outcome.stages,
            latency_us=latency_us,
            degraded=(*user.degraded, *outcome.degraded),
        )
        degraded = (*event.degraded, *await self._log.append_ranking(event))
        latency_us["log"] = (time.perf_counter_ns() - ranked_ns) // 1000
        self._metrics.observe_answer(line.funnel.bundle, split.assignments, latency_us, degraded)
        self._bundles.answered(policy.bundle, query, outcome)
        return Answer(_body(event, split, outcome, degraded), latency_us)

    def _policy(self, split: Split) -> Policy:
        if split.config_sha != self._policies_sha:
            self._policies_sha = split.config_sha
            self._policies = {}
        variants = tuple((a.key, a.variant) for a in split.assignments)
        policy = self._policies.get(variants)
        if policy is None:
            policy = self._policies[variants] = parse_policy(split.params)
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
