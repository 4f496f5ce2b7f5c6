"""Batches: what a step sees, cut out of a prepared log without Python a request.

Legend: B requests, F fields, L history length, S slots of a request, P items of the pool, N
candidates.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.losses.judgments import Judgments
from training.recflow.config import RecFlowConfig
from training.recflow.log import HISTORY_FIELDS, LIST_LENGTH, LISTS, Day, PreparedLog
from training.recflow.negatives import draw_negatives

BEST_GRADE = 30
"""Grade of the first place."""
DEEPEST_PLACE = 20
"""The deepest place published; whatever is deeper, or has no place, is graded like it. A candidate
that won its list therefore stays above all that lost theirs."""
SHUFFLE, NEGATIVES = 0, 1
"""Streams of random numbers under one seed."""

T = TypeVar("T", bound=np.generic)

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class Batch(NamedTuple):
    """B requests and their candidates.

    The slots of all requests form one pool of P = B * S items, so that whatever depends on an item
    alone is computed once, however many requests drew it as a negative. In a part of a batch, the
    slots of other parts that were drawn as negatives follow.
    """

    fields_BF: Tensor
    """int32, as `REQUEST_FIELDS`."""
    history_BLF: Tensor
    """int32, as `HISTORY_FIELDS`; zeros in the padding, which comes first."""
    history_mask_BL: Tensor
    """bool, True where there is a behaviour."""
    pool_PF: Tensor
    """int32, as `ITEM_FIELDS`; zeros in an empty slot."""
    picks_BN: Tensor
    """int64, each request's candidates as places in the pool: its own S slots (`b * S + s`), then
    its negatives."""
    judgments: Judgments
    """About the same [B, N]."""
    request_ids_B: Tensor
    """int64"""


class Slots(NamedTuple):
    """Which lists a cascade learns from, and what their slots say."""

    columns: tuple[slice, ...]
    """Of `Day.candidates`."""
    depths_S: Int64
    """Stages of the logging cascade that a candidate had passed."""
    grades_S: NDArray[np.float32]
    """Of a candidate that lost its list; 0 in the slots of the winners, whose place decides."""


def slots(stages: int) -> Slots:
    """Slots of a cascade of two or three stages.

    Two stages learn from what ranking kept and what it, coarse ranking and pre-ranking dropped:
    grades `30 - rank_index`, 7, 6, 5. Three stages put re-ranking before that: grades
    `30 - rerank_index`, 8, 7, 6, 5, and what ranking kept is not asked again (datasets of the LCRON
    and DFTopK papers, arXiv 2503.09492 and 2510.11472).
    """
    lost = ("rank_neg", "coarse_neg", "prerank_neg")
    names = ("rank_pos", *lost) if stages == 2 else ("rerank_pos", "rerank_neg", *lost)
    lists = [LISTS.index(name) for name in names]
    depths = np.arange(len(names), 0, -1)
    grades = np.array([0.0, *range(len(names) + 3, 4, -1)])
    return Slots(
        tuple(slice(i * LIST_LENGTH, (i + 1) * LIST_LENGTH) for i in lists),
        depths.repeat(LIST_LENGTH),
        grades.astype(np.float32).repeat(LIST_LENGTH),
    )


class BatchStream:
    """The batches of some days of a log, by step.

    Days follow each other in order; a batch never holds two of them. The requests of a day are
    shared out evenly among as few batches as `batch_size` allows, so that none is nearly empty and
    none is left out.
    """

    def __init__(
        self,
        log: PreparedLog,
        days: Sequence[str],
        config: RecFlowConfig,
        *,
        shuffle: bool,
        negatives: int,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        """Plan the batches.

        Args:
            log: where the requests are.
            days: which of its days, in this order.
            config: batch size, epochs, seed, and the stages that choose the lists.
            shuffle: shuffle within a day, anew each epoch, over `config.epochs` epochs; otherwise
                one pass in the order of the log.
            negatives: candidates of other requests of the batch that join each request's own.
            part: which slice of each batch to make.
            parts: into how many slices a batch is cut.

        Raises:
            LogError: the log has no such day.
            ValueError: `part` is not below `parts`.
        """
        if not 0 <= part < parts:
            raise ValueError(f"part == {part} must be in [0, {parts}) for parts == {parts}")
        sizes = [len(log.day(day).request_ids) for day in days]
        self._log, self._days, self._sizes = log, tuple(days), sizes
        self._config, self._shuffle, self._negatives = config, shuffle, negatives
        self._part, self._parts = part, parts
        self._slots = slots(len(config.stages))
        self._steps_until = [0, *accumulate(-(-size // config.batch_size) for size in sizes)]
        self._opened: tuple[str, Day] | None = None
        self._order: tuple[tuple[int, int], Int64] | None = None
        self.steps: int = self._steps_until[-1] * (config.epochs if shuffle else 1)

    def day(self, step: int) -> str:
        """The day that the batch of a step is of."""
        place = step % self._steps_until[-1]
        return self._days[bisect_right(self._steps_until, place) - 1]

    def batch(self, step: int) -> Batch:
        """The batch of a step, the same one whenever it is asked for.

        Raises:
            IndexError: `step` is not in [0, `steps`).
            ValueError: the batch has too few candidates to give every request its negatives.
        """
        day, rows_G = self._requests(step)
        slots_GS = self._candidates(day.candidates, rows_G)
        first, last = (len(rows_G) * (self._part + i) // self._parts for i in (0, 1))
        own, S = slice(first, last), slots_GS.shape[1]
        pool_P, picks_BN = slots_GS[own].reshape(-1), None
        if self._negatives:
            random = np.random.default_rng((self._config.seed, NEGATIVES, step))
            drawn_GN = draw_negatives(slots_GS, self._negatives, random)
            pool_P, picks_BN = _pool(slots_GS, drawn_GN, own)
        rows_B = rows_G[own]
        own_BS = np.arange(len(rows_B) * S).reshape(-1, S)
        picks_BN = own_BS if picks_BN is None else np.concatenate([own_BS, picks_BN], axis=1)
        history_BL = day.history.take(rows_B, axis=0)
        ranks_BS = self._candidates(day.ranks, rows_B)
        items_IF = self._log.items_IF
        return Batch(
            torch.from_numpy(day.fields.take(rows_B, axis=0)),
            torch.from_numpy(items_IF.take(history_BL, axis=0)[:, :, : len(HISTORY_FIELDS)]),
            torch.from_numpy(history_BL > 0),
            torch.from_numpy(items_IF.take(pool_P, axis=0)),
            torch.from_numpy(picks_BN),
            self._judgments(slots_GS[own], ranks_BS),
            torch.from_numpy(day.request_ids.take(rows_B)),
        )

    def _requests(self, step: int) -> tuple[Day, Int64]:
        """The day of a step, and the rows of its requests in it."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step == {step} must be in [0, {self.steps})")
        epoch, place = divmod(step, self._steps_until[-1])
        number = bisect_right(self._steps_until, place) - 1
        start, end = self._steps_until[number : number + 2]
        size, name = self._sizes[number], self._days[number]
        if self._opened is None or self._opened[0] != name:
            self._opened = name, self._log.day(name)
        first, last = (size * (place - start + i) // (end - start) for i in (0, 1))
        if not self._shuffle:
            return self._opened[1], np.arange(first, last)
        if self._order is None or self._order[0] != (epoch, number):
            random = np.random.default_rng((self._config.seed, SHUFFLE, epoch, number))
            self._order = (epoch, number), random.permutation(size)
        return self._opened[1], self._order[1][first:last]

    def _candidates(self, array_RS: NDArray[T], rows_B: Int64) -> NDArray[T]:
        taken = array_RS.take(rows_B, axis=0)
        return np.concatenate([taken[:, column] for column in self._slots.columns], axis=1)

    def _judgments(self, slots_BS: Int32, ranks_BS: NDArray[np.uint8]) -> Judgments:
        valid_BS = slots_BS > 0
        places_BS = BEST_GRADE - np.minimum(ranks_BS, DEEPEST_PLACE)
        lost_S = self._slots.grades_S
        grades_BS = np.where(lost_S > 0, lost_S, places_BS.astype(np.float32)) * valid_BS
        relevant_BS = _best(grades_BS, valid_BS, self._config.truth)
        depth_BS = self._slots.depths_S * valid_BS
        known = (grades_BS, depth_BS, relevant_BS)
        if not self._negatives:
            return Judgments(*map(torch.from_numpy, (*known, valid_BS)))
        shape = (len(slots_BS), self._negatives)
        unknown = [np.zeros(shape, array.dtype) for array in known] + [np.ones(shape, np.bool_)]
        both = zip((*known, valid_BS), unknown, strict=True)
        return Judgments(*(torch.from_numpy(np.concatenate(pair, axis=1)) for pair in both))


def _best(
    grades_BS: NDArray[np.float32], valid_BS: NDArray[np.bool_], truth: int
) -> NDArray[np.bool_]:
    """True for the `truth` best valid grades of each request, the first of equal ones."""
    S = grades_BS.shape[1]
    if truth >= S:
        return valid_BS
    # Whole grades and places make one number, different in every slot.
    keys_BS = (grades_BS * S + np.arange(S - 1, -1, -1, dtype=np.float32)) * valid_BS
    threshold_B1 = np.partition(keys_BS, S - truth, axis=1)[:, S - truth, None]
    best_BS: NDArray[np.bool_] = (keys_BS >= threshold_B1) & valid_BS
    return best_BS


def _pool(slots_GS: Int32, drawn_GN: Int64, own: slice) -> tuple[Int32, Int64]:
    """Items of a part's own slots and of those it drew, and where in them its negatives are."""
    G, S = slots_GS.shape
    drawn_BN = drawn_GN[own]
    needed_P = np.zeros(G * S, np.bool_)
    needed_P[drawn_BN] = True
    needed_P[own.start * S : own.stop * S] = False
    foreign = np.flatnonzero(needed_P)
    own_slots = np.arange(own.start * S, own.stop * S)
    order_P = np.concatenate([own_slots, foreign])
    places = np.empty(G * S, np.int64)
    places[order_P] = np.arange(len(order_P))
    return slots_GS.reshape(-1)[order_P], places[drawn_BN]
