"""Reranked: the order the user sees, and which rules made it. Legend: K items of the answer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.features import Int64


class Reranked(NamedTuple):
    """The items of an answer, by position."""

    rows_K: Int64
    scores_K: NDArray[np.float32]
    """The value each was chosen by; not always descending: pins and diversity move items."""
    rules_K: tuple[tuple[str, ...], ...]
    """Names of the rules that touched each item, such as `pin:spring` or `mmr`."""
