"""History: the source of recall for what users come back for. Legend: L history length."""

import numpy as np

from serving.cascade.recall.allowed import FIRST_LOOK, Allowed
from training.features import Int64


class History:
    """Items of the user's own history, the newest first."""

    def __init__(self, allowed: Allowed) -> None:
        """Recall what is allowed."""
        self._allowed = allowed

    def newest(self, history_rows_L: Int64, size: int) -> Int64:
        """The `size` items that the user took last, fewer where there are fewer."""
        distinct: list[int] = []
        # Most histories are long and repeat little, so that their beginning is enough.
        for seen in (FIRST_LOOK * size, len(history_rows_L)):
            # The unknown item, which histories are padded with, is never allowed.
            distinct = list(dict.fromkeys(self._allowed.of(history_rows_L[:seen]).tolist()))
            if len(distinct) >= size or seen >= len(history_rows_L):
                break
        return np.array(distinct[:size], dtype=np.int64)
