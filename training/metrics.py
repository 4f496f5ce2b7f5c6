"""Metrics of answers against what was bought.

recall@K = |answered and bought| / min(K, |bought|), mean over requests.
revenue@K = money of the answered and bought items / money of all bought, over all requests.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Arrays

Int64 = NDArray[np.int64]


class Hits(NamedTuple):
    """What B answers hit, request by request."""

    recall_B: NDArray[np.float64]
    """recall@K of each request."""
    revenue_micros_B: Int64
    """Money of the hits."""
    bought_micros_B: Int64
    """Money of everything bought."""

    @property
    def recall(self) -> float:
        """Mean recall@K."""
        return float(self.recall_B.mean()) if len(self.recall_B) else 0.0

    @property
    def revenue_share(self) -> float:
        """revenue@K as a share of all money."""
        return float(self.revenue_micros_B.sum() / max(self.bought_micros_B.sum(), 1))

    @property
    def revenue_per_request(self) -> float:
        """Money of the hits a request, currency units."""
        return float(self.revenue_micros_B.mean() / 1e6) if len(self.recall_B) else 0.0


def hits(arrays: Arrays, requests: Int64, answers_BK: Int64) -> Hits:
    """Compare answers with what was bought.

    Args:
        arrays: the dataset.
        requests: int64 [B], indices of requests.
        answers_BK: int64 [B, K], answered item rows, `OOV` where there are fewer.
    """
    recall = np.zeros(len(requests))
    revenue = np.zeros(len(requests), dtype=np.int64)
    bought = np.zeros(len(requests), dtype=np.int64)
    for i, (request, answer) in enumerate(zip(requests, answers_BK, strict=True)):
        truth = slice(arrays.truth_starts[request], arrays.truth_starts[request + 1])
        rows, micros = arrays.truth_rows[truth], arrays.truth_micros[truth]
        hit = np.isin(rows, answer)
        recall[i] = hit.sum() / min(len(answer), len(rows))
        revenue[i] = micros[hit].sum()
        bought[i] = micros.sum()
    return Hits(recall, revenue, bought)


def candidate_recall(arrays: Arrays, requests: Int64, candidates: list[NDArray[np.int64]]) -> float:
    """Share of bought items that reached ranking, mean over requests."""
    shares = [
        np.isin(arrays.truth_rows[arrays.truth_starts[r] : arrays.truth_starts[r + 1]], rows).mean()
        for r, rows in zip(requests, candidates, strict=True)
    ]
    return float(np.mean(shares)) if shares else 0.0
