"""Determinantal point process: greedy search for the most probable set.

Chen, Zhang and Zhou, "Fast Greedy MAP Inference for Determinantal Point Process" (2018), section 3:
the gain of an item is its variance given the chosen ones, which a growing Cholesky factor gives in
O(K P) a choice. Legend: P pool, D width, K chosen.
"""

import numpy as np

from serving.cascade.rerank.diversity import Float64

RIDGE = 1e-3
"""Part of every item that no other shares; without it no item could follow its own copy, and none
at all once as many are chosen as the vectors are wide."""


class Dpp:
    """Gains (1 - s) * relevance + s * log of the growth of det(S).

    This maximises (1 - s) * sum of relevance + s * log det(S), the paper's equation 16. S is
    (1 + cosine) / 2 off the diagonal and 1 + `RIDGE` on it: with the bare cosine an opposite would
    count as a copy.
    """

    name = "dpp"

    def __init__(self, relevance_P: Float64, units_PD: Float64, strength: float, most: int) -> None:
        """Weigh relevance in [0, 1] against log det(S) by `strength` s in [0, 1].

        Args:
            relevance_P: of every item of the pool.
            units_PD: their directions.
            strength: 0 is relevance alone.
            most: items that will be taken at most.
        """
        self._units_PD = units_PD
        self._strength = strength
        self._relevance_P = (1 - strength) * relevance_P
        self._variance_P = np.full(len(relevance_P), 1 + RIDGE)
        self._factor_KP = np.empty((most, len(relevance_P)))
        self._taken = 0

    def gains(self) -> Float64:
        """What each item would add now, [P]."""
        gains_P: Float64 = self._relevance_P + self._strength * np.log(self._variance_P)
        return gains_P

    def take(self, chosen: int) -> None:
        """Item `chosen` of the pool is in the answer."""
        factor_KP = self._factor_KP[: self._taken]
        similarity_P = (1 + self._units_PD @ self._units_PD[chosen]) / 2
        shared_P = similarity_P - factor_KP[:, chosen] @ factor_KP
        row_P = shared_P / np.sqrt(self._variance_P[chosen])
        self._factor_KP[self._taken] = row_P
        self._taken += 1
        # The least eigenvalue of S is at least the ridge, so only rounding can go below it.
        np.maximum(self._variance_P - row_P**2, RIDGE, out=self._variance_P)
