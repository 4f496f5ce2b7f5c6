"""Reranked: the order the user sees, and which rules made it. Legend: K items of the answer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.features import Int64


class Reranked(NamedTuple):
    """The items of an answer, by position."""

    rows_K: Int64
    scores_K: NDArray[np.float32]
    """What each was valued by: its logit, or the natural logarithm of its value where exponents or
    boosts make a value of their own. Not always descending: pins, caps and diversity move items."""
    rules_K: tuple[tuple[str, ...], ...]
    """Names of the rules that touched each item, such as `pin:spring` or `mmr`."""
    degraded: tuple[str, ...] = ()
    """Rules that could not be kept, such as `cap_broken:brands`."""
