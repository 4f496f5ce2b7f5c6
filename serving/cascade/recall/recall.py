"""Recall: the few hundred candidates of a request out of the whole catalogue.

Legend: B requests, D width, I items, L history length, N candidates.
"""

from collections.abc import Sequence
from random import Random

import faiss
import numpy as np
import torch

from serving.cascade.items import Items
from serving.cascade.recall.recalled import Float32, Mask, Recalled, RecallQuery
from training.features import Int64, RequestTensors

FAILED = "recall_failed"
"""The user vector was not finite: candidates are the user's history and popular items."""
FILLED = "recall_filled"
"""The index returned too few items: popular ones were added."""


INDEX, HISTORY, POPULAR = range(3)


class Recall:
    """First stage: nearest items of the user vector, united with the user's own history."""

    sources = ("index", "history", "popular")

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        index: faiss.Index,
        embeddings_ID: Float32,
        items: Items,
        *,
        keep: int,
        history_candidates: int,
        device: torch.device,
    ) -> None:
        """Recall `keep` items, and up to `history_candidates` of the user's history."""
        self._module = module
        self._index = index
        self._embeddings_ID = embeddings_ID
        self._items = items
        self._keep = keep
        self._history_candidates = history_candidates
        self._device = device
        self._popular_rows = np.argsort(-items.popularity_R[1:], kind="stable") + 1

    def encode(self, tensors: RequestTensors) -> Float32:
        """User vectors [B, D]."""
        with torch.inference_mode():
            user_BD = self._module.encode_user(*(t.to(self._device) for t in tensors))
        users_BD: Float32 = user_BD.float().cpu().numpy()
        return users_BD

    def allowed(self, excluded_rows: Int64) -> Mask:
        """Mask [R] over rows: available and not excluded."""
        mask = self._items.available_R.copy()
        mask[excluded_rows] = False
        return mask

    def candidates(self, users_BD: Float32, queries: Sequence[RecallQuery]) -> list[Recalled]:
        """For each request at least `num` allowed items where that many exist."""
        return [self._one(user_D, q) for user_D, q in zip(users_BD, queries, strict=True)]

    def _one(self, user_D: Float32, query: RecallQuery) -> Recalled:
        policy, num, allowed = query.policy, query.num, self.allowed(query.excluded_rows)
        keep = self._keep if policy.recall_keep is None else policy.recall_keep
        finite = bool(np.isfinite(user_D).all())
        found = (
            self._nearest(user_D, allowed, max(keep, num))
            if finite
            else np.empty(0, dtype=np.int64)
        )
        own = self._own(query.history_rows_L, allowed, policy.history_candidates)
        rows_N = np.union1d(found, own)
        degraded: tuple[str, ...] = () if finite else (FAILED,)
        wanted = max(num, 0 if finite else keep)
        added = np.empty(0, dtype=np.int64)
        if len(rows_N) < wanted:
            popular = self._popular_rows[allowed[self._popular_rows]]
            added = popular[~np.isin(popular, rows_N)][: wanted - len(rows_N)]
            rows_N = np.concatenate([rows_N, added])
            degraded = (*degraded, FILLED) if finite and len(added) else degraded
        sources_N = np.zeros(len(rows_N), dtype=np.uint8)
        for source, rows in ((INDEX, found), (HISTORY, own), (POPULAR, added)):
            sources_N |= np.isin(rows_N, rows).astype(np.uint8) << source
        scores_N = self.scores(user_D, rows_N)
        order = np.argsort(-scores_N, kind="stable")
        return Recalled(rows_N[order], scores_N[order], sources_N[order], degraded)

    def scores(self, user_D: Float32, rows_N: Int64) -> Float32:
        """Inner products of the user vector with items; 0 where that vector is not finite."""
        if not np.isfinite(user_D).all():
            return np.zeros(len(rows_N), dtype=np.float32)
        scores_N: Float32 = self._embeddings_ID[rows_N - 1] @ user_D
        return scores_N

    def popular(self, query: RecallQuery) -> Recalled:
        """Popular items alone, for when no model can be asked; their scores are 0."""
        allowed = self.allowed(query.excluded_rows)
        rows_N = self._popular_rows[allowed[self._popular_rows]][: query.num]
        scores_N = np.zeros(len(rows_N), dtype=np.float32)
        return Recalled(rows_N, scores_N, np.full(len(rows_N), 1 << POPULAR, dtype=np.uint8), ())

    def sample_dropped(self, rng: Random, kept_N: Int64, excluded_rows: Int64, size: int) -> Int64:
        """Up to `size` allowed items that are no candidates, drawn uniformly."""
        allowed = self.allowed(excluded_rows)
        taken = set(kept_N.tolist())
        drawn: list[int] = []
        for _ in range(20 * size):
            row = rng.randrange(1, len(allowed))
            if allowed[row] and row not in taken:
                drawn.append(row)
                taken.add(row)
                if len(drawn) == size:
                    break
        return np.array(drawn, dtype=np.int64)

    def _nearest(self, user_D: Float32, allowed: Mask, keep: int) -> Int64:
        """The best `keep` allowed rows: asks for more until enough of them are allowed."""
        total = self._index.ntotal
        forbidden = int(len(allowed) - 1 - allowed[1:].sum())
        asked = min(keep + min(forbidden, keep), total)
        while True:
            _, positions = self._index.search(user_D[None, :], asked)
            # FAISS pads with -1, which becomes row 0 and is never allowed.
            rows: Int64 = positions[0].astype(np.int64) + 1
            rows = rows[allowed[rows]]
            if len(rows) >= keep or asked == total:
                return rows[:keep]
            asked = min(2 * asked, total)

    def _own(self, history_rows_L: Int64, allowed: Mask, most: int | None) -> Int64:
        # The unknown item is never allowed.
        distinct = dict.fromkeys(history_rows_L[allowed[history_rows_L]].tolist())
        most = self._history_candidates if most is None else most
        return np.array(list(distinct)[:most], dtype=np.int64)
