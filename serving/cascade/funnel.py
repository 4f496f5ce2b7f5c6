"""Funnel: one bundle's way from the whole catalogue to ordered answers, several requests at once.

Legend: B requests, D width, L history length, N candidates.
"""

import logging
import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from serving.cascade.items import Items
from serving.cascade.ladder import FEWER_SHARE, Pace, Rung
from serving.cascade.passage import TRACED_DROPPED, Passage
from serving.cascade.policy import Policy
from serving.cascade.query import Outcome, Query
from serving.cascade.rank import Ranker, RankError
from serving.cascade.recall.recall import Recall
from serving.cascade.recall.recalled import Float32, Recalled, RecallQuery
from serving.cascade.rerank.reranker import Reranker
from serving.cascade.rerank.ruling import Ruling
from serving.cascade.stock import Stock
from serving.state.feature_store import UserState
from training.bundle import Manifest
from training.features import Int64, RawRequest, RequestTensors, encode_requests, item_keys

WARM_UP_ROUNDS = 3
"""TorchScript compiles a module in its first calls."""

logger = logging.getLogger(__name__)


class Funnel:
    """Recall, then every ranking stage in turn, then the last order."""

    def __init__(
        self,
        manifest: Manifest,
        items: Items,
        recall: Recall,
        rankers: Sequence[Ranker],
        reranker: Reranker,
        stock: Stock,
    ) -> None:
        """Serve a bundle through its loaded stages; `stock` keeps its items up to date."""
        self.manifest = manifest
        self.bundle = f"{manifest.name}@{manifest.version}"
        self.items = items
        self.stock = stock
        self.pace = Pace()
        self._recall = recall
        self._rankers = tuple(rankers)
        self._reranker = reranker

    def run(self, queries: Sequence[Query]) -> list[Outcome]:
        """Answer queries, one outcome each, in their order."""
        outcomes: dict[int, Outcome] = {}
        numbered = sorted(enumerate(queries), key=lambda pair: pair[1].rung)
        for rung, group in groupby(numbered, key=lambda pair: pair[1].rung):
            numbers, alike = zip(*group, strict=True)
            outcomes.update(zip(numbers, self._answer(rung, alike), strict=True))
        return [outcomes[number] for number in range(len(queries))]

    def blocked_rows(self, query: Query) -> Int64:
        """Rows that the business rules keep out of a query's answer."""
        return self._reranker.ruling(query.context, query.ts_us).blocked_rows

    def warm_up(self, batch_sizes: Sequence[int] = (1, 2)) -> None:
        """Run every module until it is compiled, for newcomers and for full histories."""
        policy = Policy(bundle=self.manifest.name)
        for length in (0, self.manifest.features.history_length) * WARM_UP_ROUNDS:
            keys = item_keys(self.items.index.item_ids[:length])
            user = UserState({}, keys, np.arange(len(keys), dtype=np.int64))
            query = Query("warm-up", user, {}, (), num=1, ts_us=len(keys), policy=policy)
            for size in batch_sizes:
                self.run([query] * size)
        self.pace = Pace()

    def _answer(self, rung: Rung, queries: Sequence[Query]) -> list[Outcome]:
        watch = _Watch()
        if rung == Rung.POPULAR:
            passages = [self._popular(query) for query in queries]
            watch.lap("popular")
        else:
            tensors = self._encode(queries)
            watch.lap("encode")
            passages = self._recalled(queries, tensors)
            watch.lap(self.manifest.stages[0].name)
            if rung < Rung.RETRIEVAL:
                self._ranked(rung, passages, tensors, watch)
        outcomes = [self._outcome(passage) for passage in passages]
        watch.lap("rerank")
        self._note_pace(rung, watch.laps_us, len(queries))
        return [outcome._replace(latency_us=watch.laps_us) for outcome in outcomes]

    def _note_pace(self, rung: Rung, laps_us: dict[str, int], size: int) -> None:
        recall_us = laps_us.get("encode", 0) + laps_us.get(self.manifest.stages[0].name, 0)
        rank_us = sum(laps_us.get(ranker.name, 0) for ranker in self._rankers)
        self.pace.note(rung, recall_us / size / 1000, rank_us / size / 1000)

    def _encode(self, queries: Sequence[Query]) -> RequestTensors:
        raw = [
            RawRequest(
                query.user.features,
                query.context,
                query.user.history_keys,
                query.user.history_ts_us,
                query.ts_us,
            )
            for query in queries
        ]
        return encode_requests(self.manifest.features, self.items.index, raw)

    def _popular(self, query: Query) -> Passage:
        ruling = self._reranker.ruling(query.context, query.ts_us)
        about = self._recall_query(query, ruling, np.empty(0, dtype=np.int64))
        return self._passage(query, ruling, self._recall.popular(about))

    def _recall_query(self, query: Query, ruling: Ruling, history_rows_L: Int64) -> RecallQuery:
        excluded = np.concatenate([self._excluded(query), ruling.blocked_rows])
        return RecallQuery(history_rows_L, excluded, query.num, query.policy)

    def _excluded(self, query: Query) -> Int64:
        return np.array([self.items.index.row(i) for i in query.exclude], dtype=np.int64)

    def _recalled(self, queries: Sequence[Query], tensors: RequestTensors) -> list[Passage]:
        users_BD = self._recall.encode(tensors)
        rulings = [self._reranker.ruling(query.context, query.ts_us) for query in queries]
        history_BL = tensors.history_rows_BL.numpy()
        asked = [
            self._recall_query(query, ruling, rows_L)
            for query, ruling, rows_L in zip(queries, rulings, history_BL, strict=True)
        ]
        passages = []
        found = self._recall.candidates(users_BD, asked)
        for query, ruling, user_D, about, recalled in zip(
            queries, rulings, users_BD, asked, found, strict=True
        ):
            passage = self._passage(query, ruling, recalled)
            drawn = self._recall.sample_dropped(
                passage.rng, recalled.rows_N, about.excluded_rows, TRACED_DROPPED
            )
            n_in = len(self.items.index) - 1
            passage.recall_done(n_in, drawn, self._recall.scores(user_D, drawn))
            passages.append(passage)
        return passages

    def _passage(self, query: Query, ruling: Ruling, recalled: Recalled) -> Passage:
        return Passage(query, ruling, recalled, self.items, self.manifest.stages[0].name)

    def _ranked(
        self,
        rung: Rung,
        passages: Sequence[Passage],
        tensors: RequestTensors,
        watch: "_Watch",
    ) -> None:
        if rung == Rung.FEWER:
            for passage in passages:
                passage.cut(max(passage.query.num, round(FEWER_SHARE * len(passage.rows_N))))
        for ranker in self._rankers:
            scored = ranker.scores(tensors, [passage.rows_N for passage in passages])
            for passage, scores_N in zip(passages, scored, strict=True):
                if isinstance(scores_N, RankError):
                    logger.warning("%s: %s", self.bundle, scores_N)
                    passage.degraded = (*passage.degraded, f"rank_failed:{ranker.name}")
                else:
                    self._rank(ranker, passage, scores_N)
            watch.lap(ranker.name)

    def _rank(self, ranker: Ranker, passage: Passage, scores_N: Float32) -> None:
        num = passage.query.num
        if ranker is self._rankers[-1]:
            # The last order chooses among all that were ranked; what lies below the answer counts
            # as dropped.
            passage.rank_done(ranker.name, scores_N, num)
        else:
            # A stage never passes on fewer than were asked for.
            keep = max(passage.query.policy.prerank_keep or ranker.keep, num)
            passage.rank_done(ranker.name, scores_N, keep)
            passage.cut(keep)

    def _outcome(self, passage: Passage) -> Outcome:
        query = passage.query
        reranked = self._reranker.order(
            passage.rows_N,
            passage.scores_N,
            num=query.num,
            policy=query.policy,
            ruling=passage.ruling,
            excluded_rows=self._excluded(query),
            ranked=passage.ranked,
        )
        return Outcome(
            item_ids=self.items.item_ids(reranked.rows_K),
            scores=tuple(reranked.scores_K.tolist()),
            stages=tuple(passage.traces),
            latency_us={},
            degraded=(*passage.degraded, *reranked.degraded),
            explanations=passage.explained(reranked.rows_K, reranked.rules_K, self._recall.sources)
            if query.explain
            else None,
        )


class _Watch:
    """Times consecutive steps."""

    def __init__(self) -> None:
        self.laps_us: dict[str, int] = {}
        self._last_ns = time.perf_counter_ns()

    def lap(self, step: str) -> None:
        now_ns = time.perf_counter_ns()
        self.laps_us[step] = self.laps_us.get(step, 0) + (now_ns - self._last_ns) // 1000
        self._last_ns = now_ns
