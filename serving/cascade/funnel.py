"""Funnel: one bundle's way from the whole catalogue to an ordered answer.

Legend: D width, L history length, N candidates.
"""

import logging
import time
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abtest.events import StageTrace
from serving.cascade.rank import Ranker, RankError
from serving.cascade.recall.recall import Recall
from serving.state.feature_store import UserState
from training.bundle import Manifest
from training.features import Int64, ItemIndex, RequestTensors, encode_request, item_keys

TRACED_SURVIVORS = 20
TRACED_DROPPED = 10

WARM_UP_ROUNDS = 3
"""TorchScript compiles a module in its first calls."""

logger = logging.getLogger(__name__)


class Query(NamedTuple):
    """What a funnel needs to know about a request."""

    request_id: str
    user: UserState
    context: dict[str, str]
    exclude: tuple[str, ...]
    num: int
    ts_us: int


class Outcome(NamedTuple):
    """The answer and how it came about."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    stages: tuple[StageTrace, ...]
    latency_us: dict[str, int]
    degraded: tuple[str, ...]


class _Pool(NamedTuple):
    """Candidates in order, best first."""

    rows_N: Int64
    scores_N: NDArray[np.float32]

    def head(self, size: int) -> "_Pool":
        return _Pool(self.rows_N[:size], self.scores_N[:size])


class Funnel:
    """Recall, then every ranking stage in turn."""

    def __init__(
        self, manifest: Manifest, items: ItemIndex, recall: Recall, rankers: Sequence[Ranker]
    ) -> None:
        """Serve a bundle through its loaded stages."""
        self.manifest = manifest
        self.bundle = f"{manifest.name}@{manifest.version}"
        self._items = items
        self._recall = recall
        self._rankers = tuple(rankers)

    def run(self, query: Query) -> Outcome:
        """Answer a query."""
        watch = _Watch()
        rng = Random(query.request_id)
        tensors = self._encode(query)
        watch.lap("encode")
        pool, trace, degraded = self._recalled(query, tensors, rng)
        watch.lap(trace.name)
        traces = [trace]
        for ranker in self._rankers:
            # A stage never passes on fewer than were asked for; the last one gives the answer.
            keep = query.num if ranker is self._rankers[-1] else max(ranker.keep, query.num)
            try:
                pool, trace = self._ranked(ranker, tensors, pool, keep, rng)
                traces.append(trace)
            except RankError as error:
                logger.warning("%s: %s", self.bundle, error)
                degraded = (*degraded, f"rank_failed:{ranker.name}")
                pool = pool.head(keep)
            watch.lap(ranker.name)
        return Outcome(
            item_ids=self._ids(pool.rows_N),
            scores=tuple(pool.scores_N.tolist()),
            stages=tuple(traces),
            latency_us=watch.laps_us,
            degraded=degraded,
        )

    def warm_up(self) -> None:
        """Run every module until it is compiled, for a newcomer and for a full history."""
        for length in (0, self.manifest.features.history_length) * WARM_UP_ROUNDS:
            keys = item_keys(self._items.item_ids[:length])
            user = UserState({}, keys, np.arange(len(keys), dtype=np.int64))
            self.run(Query("warm-up", user, {}, (), num=1, ts_us=len(keys)))

    def _encode(self, query: Query) -> RequestTensors:
        return encode_request(
            self.manifest.features,
            self._items,
            user=query.user.features,
            context=query.context,
            history_keys=query.user.history_keys,
            history_ts_us=query.user.history_ts_us,
            ts_us=query.ts_us,
        )

    def _recalled(
        self, query: Query, tensors: RequestTensors, rng: Random
    ) -> tuple[_Pool, StageTrace, tuple[str, ...]]:
        excluded = np.array([self._items.row(item) for item in query.exclude], dtype=np.int64)
        allowed = self._recall.allowed(excluded)
        user_D = self._recall.encode(tensors)
        history_L = tensors.history_rows_BL[0].numpy()
        rows_N, scores_N, degraded = self._recall.candidates(user_D, history_L, allowed, query.num)
        pool = _Pool(rows_N, scores_N)
        sampled = self._recall.sample_dropped(rng, rows_N, allowed, TRACED_DROPPED)
        dropped = _Pool(sampled, self._recall.scores(user_D, sampled))
        name = self.manifest.stages[0].name
        return pool, self._trace(name, len(self._items) - 1, pool, dropped), degraded

    def _ranked(
        self, ranker: Ranker, tensors: RequestTensors, pool: _Pool, keep: int, rng: Random
    ) -> tuple[_Pool, StageTrace]:
        scores_N = ranker.scores(tensors, pool.rows_N)
        order = np.argsort(-scores_N, kind="stable")
        ranked = _Pool(pool.rows_N[order], scores_N[order])
        rest = range(keep, len(order))
        sampled = rng.sample(rest, min(TRACED_DROPPED, len(rest)))
        dropped = _Pool(ranked.rows_N[sampled], ranked.scores_N[sampled])
        survivors = ranked.head(keep)
        return survivors, self._trace(ranker.name, len(order), survivors, dropped)

    def _trace(self, name: str, n_in: int, survivors: _Pool, dropped: _Pool) -> StageTrace:
        best = survivors.head(TRACED_SURVIVORS)
        return StageTrace(
            name=name,
            n_in=n_in,
            n_out=len(survivors.rows_N),
            item_ids=self._ids(best.rows_N) + self._ids(dropped.rows_N),
            scores=(*best.scores_N.tolist(), *dropped.scores_N.tolist()),
            survived=(True,) * len(best.rows_N) + (False,) * len(dropped.rows_N),
        )

    def _ids(self, rows: Int64) -> tuple[str, ...]:
        return tuple(self._items.item_id(row) for row in rows.tolist())


class _Watch:
    """Times consecutive steps."""

    def __init__(self) -> None:
        self.laps_us: dict[str, int] = {}
        self._last_ns = time.perf_counter_ns()

    def lap(self, step: str) -> None:
        now_ns = time.perf_counter_ns()
        self.laps_us[step] = (now_ns - self._last_ns) // 1000
        self._last_ns = now_ns
