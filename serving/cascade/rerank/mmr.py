"""Maximal marginal relevance (Carbonell and Goldstein, 1998). Legend: P pool, D width."""

import numpy as np

from serving.cascade.rerank.diversity import Float64


class Mmr:
    """Gains (1 - s) * relevance - s * similarity to the most similar chosen item."""

    name = "mmr"

    def __init__(self, relevance_P: Float64, units_PD: Float64, strength: float) -> None:
        """Weigh relevance in [0, 1] against the cosine of directions, by `strength` s in [0, 1]."""
        self._units_PD = units_PD
        self._strength = strength
        self._relevance_P = (1 - strength) * relevance_P
        # Least possible cosine; the same for all, so it does not matter before the first choice.
        self._nearest_P = np.full(len(relevance_P), -1.0)

    def gains(self) -> Float64:
        """What each item would add now, [P]."""
        gains_P: Float64 = self._relevance_P - self._strength * self._nearest_P
        return gains_P

    def take(self, chosen: int) -> None:
        """Item `chosen` of the pool is in the answer."""
        np.maximum(self._nearest_P, self._units_PD @ self._units_PD[chosen], out=self._nearest_P)
