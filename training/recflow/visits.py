"""Visits to a made-up platform: who asks when, and what each user watched before.

Legend: R requests of a day, U users, L history length, E effective views of a day.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.recflow.log import HISTORY_LENGTH
from training.recflow.schema import HISTORY_COLUMNS, PADDING_LEVEL_ONE
from training.recflow.world import World, midnight_s, scattered

Int64 = NDArray[np.int64]

BUSY = np.array(
    [4, 3, 2, 1, 1, 1, 2, 3, 4, 4, 4, 5, 7, 6, 5, 5, 5, 6, 7, 8, 10, 11, 10, 7], np.float64
)
"""Requests of each hour, in proportion."""


class Visits(NamedTuple):
    """Requests of a day in the order of time; those of a user are at different times."""

    ids_R: Int64
    timestamps_ms_R: Int64
    users_R: Int64
    """Rows of `World.users`."""

    hours_R: Int64
    """Hour of the day in China, 0 to 23."""


def draw_visits(world: World, day: int, random: np.random.Generator) -> Visits:
    """Requests of a day."""
    count = world.size.requests
    users_R = np.searchsorted(world.users.activity_U, random.random(count, dtype=np.float32))
    users_R = np.minimum(users_R, world.size.users - 1)
    hours_R = random.choice(24, count, p=BUSY / BUSY.sum())
    offsets_R = hours_R * 3_600_000 + random.integers(0, 3_599_000, count)
    order = np.lexsort((offsets_R, users_R))
    users_R, offsets_R = users_R[order], offsets_R[order]
    # What was watched at the very moment of a request is not known to it.
    # The last second of an hour is free, so that nobody is moved to the next.
    while (clash := (users_R[1:] == users_R[:-1]) & (offsets_R[1:] <= offsets_R[:-1])).any():
        offsets_R[1:][clash] = offsets_R[:-1][clash] + 1
    order = np.argsort(offsets_R, kind="stable")
    ids_R = scattered(np.arange(day * count, (day + 1) * count), world.size.counts["request_id"])
    offsets_R, users_R = offsets_R[order], users_R[order]
    return Visits(ids_R, midnight_s(day) * 1000 + offsets_R, users_R, offsets_R // 3_600_000)


class Memory:
    """What each user watched last, up to the day that comes next."""

    def __init__(self, users: int) -> None:
        """Nobody has watched anything."""
        self._recent_UL = np.zeros((users, HISTORY_LENGTH, len(HISTORY_COLUMNS)), np.int64)
        self._recent_UL[:, :, HISTORY_COLUMNS.index("category_level_one")] = PADDING_LEVEL_ONE

    def recall(self, visits: Visits, views_E: Int64, visit_E: Int64) -> Int64:
        """Histories of a day's requests, each of what its user watched before.

        Args:
            visits: of the day.
            views_E: [E, 10] the day's effective views, as `HISTORY_COLUMNS`.
            visit_E: [E] places in `visits`, ascending.

        Returns:
            [R, L, 10]
        """
        numbers_R = np.bincount(visit_E, minlength=len(visits.users_R))
        by_user_E = np.argsort(visits.users_R[visit_E], kind="stable")
        sorted_E = views_E[by_user_E]
        by_user_R = np.argsort(visits.users_R, kind="stable")
        ends = np.cumsum(numbers_R[by_user_R])
        before_R = np.empty(len(by_user_R), np.int64)
        before_R[by_user_R] = ends - numbers_R[by_user_R]
        number_U = np.bincount(
            visits.users_R, weights=numbers_R, minlength=len(self._recent_UL)
        ).astype(np.int64)
        starts_U = np.cumsum(number_U) - number_U
        seen_R = before_R - starts_U[visits.users_R]
        histories_RL = self._latest(sorted_E, starts_U, visits.users_R, seen_R)
        everyone_U = np.arange(len(number_U))
        self._recent_UL = self._latest(sorted_E, starts_U, everyone_U, number_U)
        return histories_RL

    def _latest(self, sorted_E: Int64, starts_U: Int64, users_R: Int64, seen_R: Int64) -> Int64:
        """The last views of users after the first `seen_R` of the day."""
        latest_RL = np.empty((len(users_R), *self._recent_UL.shape[1:]), np.int64)
        if len(sorted_E) == 0:
            latest_RL[:] = self._recent_UL[users_R]
            return latest_RL
        for first in range(0, len(users_R), 4096):
            part = slice(first, first + 4096)
            users, seen = users_R[part, None], seen_R[part, None]
            places = seen - HISTORY_LENGTH + np.arange(HISTORY_LENGTH)
            today = sorted_E[np.minimum(starts_U[users] + np.maximum(places, 0), len(sorted_E) - 1)]
            earlier = self._recent_UL[users, HISTORY_LENGTH + np.minimum(places, -1)]
            latest_RL[part] = np.where((places >= 0)[:, :, None], today, earlier)
        return latest_RL
