"""Recall: the few hundred candidates of a request out of the whole catalogue.

Legend: D width, I items, L history length, N candidates.
"""

from random import Random
from typing import NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from training.bundle import ItemTable
from training.features import Int64, RequestTensors

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

FAILED = "recall_failed"
"""The user vector was not finite: candidates are the user's history and popular items."""
FILLED = "recall_filled"
"""The index returned too few items: popular ones were added."""


class Candidates(NamedTuple):
    """Allowed items that go on to ranking, best first."""

    rows_N: Int64
    scores_N: Float32
    degraded: tuple[str, ...]


class Recall:
    """First stage: nearest items of the user vector, united with the user's own history."""

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        index: faiss.Index,
        embeddings_ID: Float32,
        items: ItemTable,
        *,
        keep: int,
        history_candidates: int,
        device: torch.device,
    ) -> None:
        """Recall `keep` items, and up to `history_candidates` of the user's history."""
        self._module = module
        self._index = index
        self._embeddings_ID = embeddings_ID
        self._keep = keep
        self._history_candidates = history_candidates
        self._device = device
        self._available = np.concatenate([[False], items.available])
        self._popular_rows = np.argsort(-items.popularity, kind="stable") + 1

    def encode(self, tensors: RequestTensors) -> Float32:
        """User vector [D] of one request."""
        with torch.inference_mode():
            user_BD = self._module.encode_user(*(t.to(self._device) for t in tensors))
        user_D: Float32 = user_BD[0].float().cpu().numpy()
        return user_D

    def allowed(self, excluded_rows: Int64) -> Mask:
        """Mask [I + 1] over rows: available and not excluded."""
        mask = self._available.copy()
        mask[excluded_rows] = False
        return mask

    def candidates(
        self, user_D: Float32, history_rows_L: Int64, allowed: Mask, num: int
    ) -> Candidates:
        """At least `num` allowed items where that many exist.

        Args:
            user_D: the user vector.
            history_rows_L: newest first; the unknown item is passed over.
            allowed: mask over rows.
            num: items the answer shall have.
        """
        finite = bool(np.isfinite(user_D).all())
        found = (
            self._nearest(user_D, allowed, max(self._keep, num))
            if finite
            else np.empty(0, dtype=np.int64)
        )
        rows_N = np.union1d(found, self._own(history_rows_L, allowed))
        degraded = () if finite else (FAILED,)
        wanted = max(num, 0 if finite else self._keep)
        if len(rows_N) < wanted:
            popular = self._popular_rows[allowed[self._popular_rows]]
            added = popular[~np.isin(popular, rows_N)][: wanted - len(rows_N)]
            rows_N = np.concatenate([rows_N, added])
            degraded = (*degraded, FILLED) if finite and len(added) else degraded
        scores_N = self.scores(user_D, rows_N)
        order = np.argsort(-scores_N, kind="stable")
        return Candidates(rows_N[order], scores_N[order], degraded)

    def scores(self, user_D: Float32, rows_N: Int64) -> Float32:
        """Inner products of the user vector with items; 0 where that vector is not finite."""
        if not np.isfinite(user_D).all():
            return np.zeros(len(rows_N), dtype=np.float32)
        scores_N: Float32 = self._embeddings_ID[rows_N - 1] @ user_D
        return scores_N

    def sample_dropped(self, rng: Random, kept_N: Int64, allowed: Mask, size: int) -> Int64:
        """Up to `size` allowed items that are no candidates, drawn uniformly."""
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

    def _own(self, history_rows_L: Int64, allowed: Mask) -> Int64:
        # The unknown item is never allowed.
        distinct = dict.fromkeys(history_rows_L[allowed[history_rows_L]].tolist())
        return np.array(list(distinct)[: self._history_candidates], dtype=np.int64)
