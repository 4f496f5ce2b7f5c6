"""Recall: the few hundred candidates of a request out of the whole catalogue.

Four sources give candidates, each up to its quota: the items nearest to the user's vector, the
user's own history, popular and fresh items. They are united; an item knows which of them gave it.

Legend: B requests, D width, I items of the bundle, N candidates, R rows.
"""

from collections.abc import Sequence
from random import Random

import numpy as np
import torch

from serving.cascade.items import Items
from serving.cascade.recall.allowed import Allowed
from serving.cascade.recall.fresh import Fresh
from serving.cascade.recall.history import History
from serving.cascade.recall.index import Index
from serving.cascade.recall.nearest import Nearest
from serving.cascade.recall.popular import Popular
from serving.cascade.recall.recalled import Float32, Recalled, RecallQuery
from serving.cascade.recall.vectors import Vectors
from training.features import Int64, RequestTensors

FAILED = "recall_failed"
"""The user vector was not finite: candidates are the other sources' and popular items."""
FILLED = "recall_filled"
"""The index returned too few items: popular ones were added."""

INDEX, HISTORY, POPULAR, FRESH = range(4)
_NO_ROWS: Int64 = np.empty(0, dtype=np.int64)
MOST_EXCLUDED = 1000
"""So many excluded items can never make recall short; it is what one request may exclude."""
_DRAWS = 20
"""An item that may not be drawn is drawn again, so many times on average."""


class Recall:
    """First stage of a funnel."""

    sources = ("index", "history", "popular", "fresh")

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        index: Index,
        embeddings_ID: Float32,
        items: Items,
        *,
        keep: int,
        history_candidates: int,
        device: torch.device,
    ) -> None:
        """Recall `keep` items, and up to `history_candidates` of the user's history."""
        self._module = module
        self._items = items
        self._keep = keep
        self._history_candidates = history_candidates
        self._device = device
        self._vectors = Vectors(embeddings_ID, len(items))
        self._allowed = Allowed(items)
        self._nearest = Nearest(index, self._vectors, items)
        self._history = History(self._allowed)
        self._popular = Popular(items, self._allowed)
        self._fresh = Fresh(items, self._allowed)
        # Which sources gave a row; all zero between requests.
        self._given_R = np.zeros(len(items), dtype=np.uint8)

    def encode(self, tensors: RequestTensors) -> Float32:
        """User vectors [B, D]."""
        with torch.inference_mode():
            user_BD = self._module.encode_user(*(t.to(self._device) for t in tensors))
        users_BD: Float32 = user_BD.float().cpu().numpy()
        return users_BD

    def candidates(self, users_BD: Float32, queries: Sequence[RecallQuery]) -> list[Recalled]:
        """For each request at least `num` allowed items where that many exist."""
        finite_B = np.array([np.isfinite(user_D).all() for user_D in users_BD])
        nearest_BN: list[Int64 | None] = [None] * len(queries)
        if finite_B.any():
            # Excluded items are cut off afterwards, so there are as many more. Rules may block far
            # more than a search should bring: then popular items fill what is missing.
            most = max(
                self._nearest_quota(query) + min(len(query.excluded_rows), MOST_EXCLUDED)
                for query, finite in zip(queries, finite_B, strict=True)
                if finite
            )
            found = self._nearest.search(users_BD[finite_B], most)
            for b, rows_N in zip(np.flatnonzero(finite_B).tolist(), found, strict=True):
                nearest_BN[b] = rows_N
        return [
            self._united(user_D, query, nearest_N)
            for user_D, query, nearest_N in zip(users_BD, queries, nearest_BN, strict=True)
        ]

    def _nearest_quota(self, query: RecallQuery) -> int:
        keep = query.policy.recall_keep
        return max(self._keep if keep is None else keep, query.num)

    def _united(self, user_D: Float32, query: RecallQuery, nearest_N: Int64 | None) -> Recalled:
        """Unite what the sources give; `nearest_N` is None where the vector is not finite."""
        with self._allowed.without(query.excluded_rows):
            quota = self._nearest_quota(query)
            given = list(self._others(query))
            degraded: tuple[str, ...] = ()
            if nearest_N is None:
                wanted, degraded = quota, (FAILED,)
            else:
                wanted = query.num
                given.insert(0, (INDEX, self._allowed.of(nearest_N)[:quota]))
            rows_N, sources_N = self._merge(given)
            if len(rows_N) < wanted:
                filled = self._popular.best(wanted)
                added = filled[~np.isin(filled, rows_N)][: wanted - len(rows_N)]
                if nearest_N is not None and len(added):
                    degraded = (FILLED,)
                rows_N, sources_N = self._merge([*given, (POPULAR, added)])
        if nearest_N is None:
            return Recalled(rows_N, np.zeros(len(rows_N), dtype=np.float32), sources_N, degraded)
        scores_N = self._vectors.of(rows_N) @ user_D
        order = np.argsort(-scores_N, kind="stable")
        return Recalled(rows_N[order], scores_N[order], sources_N[order], degraded)

    def _others(self, query: RecallQuery) -> list[tuple[int, Int64]]:
        policy = query.policy
        most = policy.history_candidates
        most = self._history_candidates if most is None else most
        own = self._history.newest(query.history_rows_L, most)
        # A newcomer has no history: its places go to popular items.
        popular = policy.popular_candidates + (0 if query.history_rows_L.any() else most)
        given = [(HISTORY, own)]
        if popular:
            given.append((POPULAR, self._popular.best(popular)))
        if policy.fresh_candidates:
            given.append((FRESH, self._fresh.newest(policy.fresh_candidates)))
        return given

    def _merge(
        self, given: Sequence[tuple[int, Int64]]
    ) -> tuple[Int64, "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]:
        """Distinct rows in the order of their first source, and the sources of each."""
        marks, distinct = self._given_R, []
        for source, rows in given:
            distinct.append(rows[marks[rows] == 0])
            marks[rows] |= 1 << source
        rows_N = np.concatenate(distinct)
        sources_N = marks[rows_N]
        marks[rows_N] = 0
        return rows_N, sources_N

    def vectors(self, rows_N: Int64) -> Float32:
        """Retrieval vectors [N, D] of available items."""
        return self._vectors.of(rows_N)

    def scores(self, user_D: Float32, rows_N: Int64) -> Float32:
        """Inner products of the user vector with items; 0 where that vector is not finite."""
        if not np.isfinite(user_D).all():
            return np.zeros(len(rows_N), dtype=np.float32)
        scores_N: Float32 = self._vectors.of(rows_N) @ user_D
        return scores_N

    def popular(self, query: RecallQuery) -> Recalled:
        """Popular items alone, for when no model can be asked; their scores are 0."""
        with self._allowed.without(query.excluded_rows):
            rows_N = self._popular.best(query.num)
        scores_N = np.zeros(len(rows_N), dtype=np.float32)
        return Recalled(rows_N, scores_N, np.full(len(rows_N), 1 << POPULAR, dtype=np.uint8), ())

    def sample_dropped(self, rng: Random, kept_N: Int64, excluded_rows: Int64, size: int) -> Int64:
        """Up to `size` allowed items that are no candidates, drawn uniformly."""
        rows_A, taken_R = self._items.available_rows, self._given_R
        drawn: list[int] = []
        taken_R[kept_N] = taken_R[excluded_rows] = 1
        for _ in range(_DRAWS * size if len(rows_A) else 0):
            row = int(rows_A[rng.randrange(len(rows_A))])
            if not taken_R[row]:
                taken_R[row] = 1
                drawn.append(row)
                if len(drawn) == size:
                    break
        taken_R[kept_N] = taken_R[excluded_rows] = taken_R[drawn] = 0
        return np.array(drawn, dtype=np.int64)

    def put(self, rows_N: Int64, vectors_ND: Float32, revalued_N: Int64) -> None:
        """Take over what `items` holds of distinct rows by now.

        Args:
            rows_N: rows of which anything changed.
            vectors_ND: vectors of `revalued_N`.
            revalued_N: those of the rows whose vector changed.
        """
        self._vectors.put(revalued_N, vectors_ND)
        self._nearest.refresh(rows_N)
        self._popular.move(revalued_N)
        self._fresh.sort()
