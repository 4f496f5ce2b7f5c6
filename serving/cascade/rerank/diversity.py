"""Diversity: how alike items are, and what it takes to be a measure of it.

Both measures are greedy: item after item is chosen, each time the one that gains most given those
that were chosen before. Legend: P items of the pool, D width.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


class Diversity(Protocol):
    """A greedy trade of an item's relevance for its difference from the chosen ones."""

    name: str
    """Under which it is told as the reason for an item's place."""

    def gains(self) -> Float64:
        """What each item of the pool would add now, finite [P]; of chosen ones it means nothing."""

    def take(self, chosen: int) -> None:
        """Item `chosen` of the pool is in the answer."""


def unit_vectors(vectors_PD: NDArray[np.float32]) -> Float64:
    """Directions [P, D]; where a vector has none, zero: such an item is like no other."""
    wide_PD = np.where(np.isfinite(vectors_PD), vectors_PD, 0.0).astype(np.float64)
    # Scaled first, so that squares neither overflow nor vanish.
    wide_PD /= np.maximum(np.abs(wide_PD).max(axis=1, keepdims=True, initial=0.0), 1e-300)
    norms_P = np.sqrt(np.einsum("pd,pd->p", wide_PD, wide_PD))
    return wide_PD / np.where(norms_P > 0, norms_P, 1.0)[:, None]


def relevance(values_P: Float64) -> Float64:
    """Values [P] stretched to 0 for the least and 1 for the best; all 0 where they are equal."""
    least, best = values_P.min(initial=np.inf), values_P.max(initial=-np.inf)
    if not best > least:
        return np.zeros_like(values_P)
    stretched_P: Float64 = (values_P - least) / (best - least)
    return stretched_P
