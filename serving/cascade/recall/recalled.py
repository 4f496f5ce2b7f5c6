"""Recalled: what recall is asked and what it gives. Legend: L history length, N candidates."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.cascade.policy import Policy
from training.features import Int64

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


class RecallQuery(NamedTuple):
    """One request as recall sees it."""

    history_rows_L: Int64
    """Newest first, padded with the unknown item."""
    excluded_rows: Int64
    num: int
    """Items the answer shall have."""
    policy: Policy


class Recalled(NamedTuple):
    """Allowed items that go on to ranking: distinct, best first by the retrieval score."""

    rows_N: Int64
    scores_N: Float32
    sources_N: NDArray[np.uint8]
    """Bit s is set where source s of `Recall.sources` gave the item."""
    degraded: tuple[str, ...]
