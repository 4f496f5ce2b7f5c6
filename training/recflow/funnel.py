"""A made-up cascade: what each of its stages sees, keeps and drops, and what is watched in the end.

No stage scores what the stage after it scores. Pre-ranking knows categories and popularity only,
coarse ranking knows every video but not what the user wants today, ranking likes long videos,
re-ranking avoids repetition; each errs by chance as well.

Legend: B requests, M candidates a stage sees, V videos, C categories, D latent width.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.recflow.log import LIST_LENGTH
from training.recflow.world import LEVELS_ONE, Videos, World

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

POOL = 256
"""Draws of retrieval; a video drawn twice counts once."""
PERSONAL = 160
"""Draws from the categories a user likes; the others are by popularity."""
PRERANKED, COARSE, RANKED, RERANKED = 96, 48, 20, 10
"""Candidates that pass pre-ranking, coarse ranking, ranking and re-ranking."""
SHOWN = (3, 4, 5, 6)
CELLS_A_VIDEO = 8


class Outcome(NamedTuple):
    """What became of the candidates of B requests; M is 20 + 3 * 10, as `GROUPS`."""

    videos_BM: Int64
    """Rows on the shelf, -1 where there were too few."""
    rank_index_BM: Int64
    """Place in ranking, for what passed it; 0 elsewhere."""
    rerank_index_BM: Int64
    """Place in re-ranking, for what passed ranking; 0 elsewhere."""
    rank_pos_BM: Bool
    """A sample of what passed ranking."""
    shown_BM: Bool
    utility_BM: Float32
    """How much the user wants it; meaningful for what passed ranking."""


GROUPS = {
    "rerank_pos": slice(0, RERANKED),
    "rerank_neg": slice(RERANKED, RANKED),
    "rank_neg": slice(RANKED, RANKED + 10),
    "coarse_neg": slice(RANKED + 10, RANKED + 20),
    "prerank_neg": slice(RANKED + 20, RANKED + 30),
}
"""List to the columns of an outcome."""


class Shelf:
    """The videos of a day, laid out to be drawn by category and popularity."""

    def __init__(self, videos: Videos) -> None:
        """Videos from which requests are answered."""
        self.videos = videos
        level_one_V = videos.published_VF[:, 2]
        weights_V = np.exp(videos.popularity_V - videos.popularity_V.max()).astype(np.float64)
        cells_V = 1 + (CELLS_A_VIDEO * len(weights_V) * weights_V / weights_V.sum()).astype(int)
        order_V = np.argsort(level_one_V, kind="stable")
        self.cells = np.repeat(order_V.astype(np.int32), cells_V[order_V])
        sizes_C = np.bincount(level_one_V, weights=cells_V, minlength=LEVELS_ONE).astype(np.int64)
        self.sizes_C = sizes_C
        self.starts_C = np.cumsum(sizes_C) - sizes_C


class Funnel:
    """The cascade of one day."""

    def __init__(self, world: World, shelf: Shelf, random: np.random.Generator) -> None:
        """Ready to answer requests."""
        self._world = world
        self._shelf = shelf
        self._random = random
        broad_CD = np.zeros((LEVELS_ONE, world.centres_CD.shape[1]), np.float32)
        np.add.at(broad_CD, world.level_one_C, world.centres_CD)
        number_C = np.bincount(world.level_one_C, minlength=LEVELS_ONE)
        self._broad_CD = broad_CD / number_C[:, None].astype(np.float32)

    def answer(self, users_B: Int64, interests_BD: Float32, hours_B: Int64) -> Outcome:
        """Run the cascade for B requests.

        Args:
            users_B: rows of `World.users`.
            interests_BD: what each wants today.
            hours_B: 0 to 23.
        """
        videos = self._shelf.videos
        tastes_BD = self._world.users.tastes_UD[users_B]
        pool_BM, fresh_BM = self._retrieve(tastes_BD)
        level_two_BM = videos.published_VF[:, 3][pool_BM]
        scores_BM: Float32
        scores_BM = np.take_along_axis(tastes_BD @ self._world.centres_CD.T, level_two_BM, axis=1)
        scores_BM += 0.6 * videos.popularity_V[pool_BM] + self._noise(pool_BM, 0.5)
        scores_BM[~fresh_BM] = -np.inf
        passed_BM, prerank_neg_BM = self._cut(pool_BM, scores_BM, PRERANKED)

        scores_BM = self._match(tastes_BD, passed_BM) + self._noise(passed_BM, 0.5)
        scores_BM += 0.2 * videos.popularity_V[passed_BM] + 0.5 * videos.quality_V[passed_BM]
        passed_BM, coarse_neg_BM = self._cut(passed_BM, scores_BM, COARSE)

        utility_BM = self._utility(interests_BD, hours_B, passed_BM)
        scores_BM = utility_BM + 0.3 * self._length(passed_BM) + self._noise(passed_BM, 0.3)
        order_BM = np.argsort(-scores_BM, axis=1)
        rank_neg_BM = self._sample(np.take_along_axis(passed_BM, order_BM[:, RANKED:], axis=1))
        order_BM = order_BM[:, :RANKED]
        return self._finish(
            np.take_along_axis(passed_BM, order_BM, axis=1),
            np.take_along_axis(utility_BM, order_BM, axis=1),
            (rank_neg_BM, coarse_neg_BM, prerank_neg_BM),
        )

    def _retrieve(self, tastes_BD: Float32) -> tuple[Int64, Bool]:
        """Candidates, and which of them are not drawn a second time."""
        shelf, random = self._shelf, self._random
        liking_BC = np.exp(1.5 * (tastes_BD @ self._broad_CD.T).astype(np.float64))
        liking_BC *= shelf.sizes_C
        # Rounding must not leave a sum above 1.
        liking_BC /= liking_BC.sum(axis=1, keepdims=True) * (1 + 1e-9)
        numbers_BC = random.multinomial(PERSONAL, liking_BC)
        chosen = np.repeat(np.tile(np.arange(LEVELS_ONE), len(tastes_BD)), numbers_BC.ravel())
        offsets = random.random(chosen.shape, dtype=np.float32) * shelf.sizes_C[chosen]
        # What rounding left over of the shares goes to the last category, which may be empty.
        spots = np.minimum(shelf.starts_C[chosen] + offsets.astype(int), len(shelf.cells) - 1)
        popular = random.integers(0, len(shelf.cells), (len(tastes_BD), POOL - PERSONAL))
        spots_BM = np.concatenate([spots.reshape(len(tastes_BD), PERSONAL), popular], axis=1)
        pool_BM = np.sort(shelf.cells[spots_BM], axis=1)
        fresh_BM = np.ones(pool_BM.shape, bool)
        fresh_BM[:, 1:] = pool_BM[:, 1:] != pool_BM[:, :-1]
        return pool_BM.astype(np.int64), fresh_BM

    def _cut(self, videos_BM: Int64, scores_BM: Float32, keep: int) -> tuple[Int64, Int64]:
        """What passes, and a sample of what falls."""
        order_BM = np.argpartition(-scores_BM, keep, axis=1)
        ordered_BM = np.take_along_axis(videos_BM, order_BM, axis=1)
        fallen_BM = ordered_BM[:, keep:]
        lost_BM = np.take_along_axis(scores_BM, order_BM[:, keep:], axis=1) == -np.inf
        fallen_BM[lost_BM] = -1
        return ordered_BM[:, :keep], self._sample(fallen_BM)

    def _sample(self, videos_BM: Int64) -> Int64:
        """`LIST_LENGTH` of the videos, in no order; -1 only where there are too few."""
        lots_BM = self._random.random(videos_BM.shape, dtype=np.float32)
        lots_BM[videos_BM < 0] = 2
        first_BM = np.argpartition(lots_BM, LIST_LENGTH - 1, axis=1)[:, :LIST_LENGTH]
        return np.take_along_axis(videos_BM, first_BM, axis=1)

    def _finish(
        self, videos_BM: Int64, utility_BM: Float32, fallen: tuple[Int64, Int64, Int64]
    ) -> Outcome:
        """Re-rank what passed ranking, and show the best of it."""
        random = self._random
        level_two_BM = self._shelf.videos.published_VF[:, 3][videos_BM]
        same_BMM = level_two_BM[:, :, None] == level_two_BM[:, None, :]
        repeats_BM = np.tril(same_BMM, -1).sum(axis=2)
        scores_BM = utility_BM - 0.3 * repeats_BM + self._noise(videos_BM, 0.15)
        order_BM = np.argsort(-scores_BM, axis=1)
        logged_BM = random.random(videos_BM.shape).argsort(axis=1) < LIST_LENGTH
        shown_B = random.choice(SHOWN, len(videos_BM), p=(0.3, 0.35, 0.25, 0.1))
        places_BM = np.broadcast_to(np.arange(RANKED), videos_BM.shape)
        return Outcome(
            np.concatenate([np.take_along_axis(videos_BM, order_BM, axis=1), *fallen], axis=1),
            _widened(order_BM),
            _widened(places_BM),
            _widened(logged_BM),
            _widened(places_BM < shown_B[:, None]),
            _widened(np.take_along_axis(utility_BM, order_BM, axis=1)),
        )

    def _utility(self, interests_BD: Float32, hours_B: Int64, videos_BM: Int64) -> Float32:
        """What decides in the end."""
        videos = self._shelf.videos
        level_one_BM = videos.published_VF[:, 2][videos_BM]
        moment_BM = self._world.hours_HC[hours_B[:, None], level_one_BM]
        match_BM = self._match(interests_BD, videos_BM)
        return np.asarray(match_BM + 0.5 * videos.quality_V[videos_BM] + moment_BM)

    def _match(self, wanted_BD: Float32, videos_BM: Int64) -> Float32:
        latents_BMD = self._shelf.videos.latents_VD[videos_BM]
        return np.asarray((latents_BMD @ wanted_BD[:, :, None])[:, :, 0])

    def _length(self, videos_BM: Int64) -> Float32:
        duration_ms = self._shelf.videos.published_VF[:, 6][videos_BM]
        return (np.log(duration_ms / 20000) / 0.7).astype(np.float32)

    def _noise(self, like: Int64, scale: float) -> Float32:
        return np.float32(scale) * self._random.standard_normal(like.shape, dtype=np.float32)


def _widened(array_BM: NDArray[Any]) -> NDArray[Any]:
    """With zeros for what never passed ranking."""
    return np.pad(array_BM, ((0, 0), (0, 3 * LIST_LENGTH)))
