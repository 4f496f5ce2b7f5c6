"""Yardsticks: answers without a model, which any model has to beat.

Legend: B requests, I items, K answered items, H distinct items of a history.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.answers import NUM
from training.data.dataset import Arrays
from training.features import OOV, US_PER_DAY

POPULARITY = "popularity"
PERSONAL_FREQUENCY = "personal frequency"
RECENT_FREQUENCY = "recent personal frequency"
DECAY_DAYS = 120.0
"""Time constant over which a past purchase loses its weight in `RECENT_FREQUENCY`."""

Int64 = NDArray[np.int64]


class Yardsticks:
    """Popular items, and what a user bought most often, with or without a fading memory."""

    def __init__(
        self, arrays: Arrays, train_end_us: int, available_I: NDArray[np.bool_], num: int = NUM
    ) -> None:
        """Count popularity.

        Args:
            arrays: the dataset.
            train_end_us: purchases before this time count towards popularity.
            available_I: bool [I], items that may be recommended; the unknown item is not in it.
            num: K, items to answer with.
        """
        self._arrays = arrays
        self._num = num
        self._allowed = np.concatenate([[False], available_I])
        rows = arrays.purchase_rows[arrays.purchase_ts_us < train_end_us]
        counts = np.bincount(rows, minlength=len(self._allowed))
        order = np.argsort(-counts, kind="stable")
        self._rank = np.argsort(order)
        self._popular = order[self._allowed[order]][:num]

    def answers(self, requests: Int64) -> Iterator[dict[str, Int64]]:
        """What each yardstick answers, by its name, request by request: int64 [K] item rows."""
        purchases, ts_us = self._arrays.purchase_rows, self._arrays.purchase_ts_us
        nothing = np.empty(0, dtype=np.int64)
        popular_K = self._best(nothing, nothing)
        for request in requests:
            past = slice(self._arrays.history_start[request], self._arrays.history_end[request])
            known_H, place = np.unique(purchases[past], return_inverse=True)
            age_us = self._arrays.request_ts_us[request] - ts_us[past]
            weights = np.exp(-age_us / (DECAY_DAYS * US_PER_DAY))
            yield {
                POPULARITY: popular_K,
                PERSONAL_FREQUENCY: self._best(known_H, np.bincount(place)),
                RECENT_FREQUENCY: self._best(known_H, np.bincount(place, weights)),
            }

    def _best(
        self, known_H: NDArray[np.integer], count_H: NDArray[np.integer] | NDArray[np.float64]
    ) -> Int64:
        """The allowed rows with the highest counts; ties and the rest by popularity."""
        order = np.lexsort((self._rank[known_H], -count_H))
        ranked = known_H[order]
        best = ranked[self._allowed[ranked]][: self._num]
        rest = self._popular[~np.isin(self._popular, best)]
        best_K = np.full(self._num, OOV, dtype=np.int64)
        found = np.concatenate([best, rest])[: self._num]
        best_K[: len(found)] = found
        return best_K
