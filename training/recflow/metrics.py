"""Metrics of a cascade on RecFlow: recall of each stage, of all in a row, and NDCG.

Two protocols say what competes, what is true and how equal scores are ordered:

- `paper`, as published (arXiv 2503.09492 and 2510.11472 and their code), quirks included. Nothing
  is masked in the scores, so empty slots take places. The truth is the `truth` highest labels, an
  empty slot having label 0; recall is always divided by `truth`. NDCG takes an empty slot for what
  its list's default label says, 30 in the winners' list. Where scores or labels are equal the
  columns are taken in an order drawn at random once a batch. The published code leaves that to
  argpartition after such a draw; here it is a rule, so that results repeat everywhere. NDCG is the
  mean over the orders of equal scores.
- `strict`. An empty slot neither competes nor counts, recall is divided by the relevant candidates
  there are, and equal scores are read against the cascade: an irrelevant candidate goes before a
  relevant one, a lower grade before a higher. So a cascade that scores everything
  alike keeps no relevant candidate as long as others fill its places.

Legend: B requests, N candidates, S stages, E slots of a request (its first candidates).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.losses.judgments import Judgments

Protocol = Literal["paper", "strict"]

NDCG_AT = 10
_COLUMN_BITS = 16
"""Low bits of a key, for the column."""
_LAST = 1 << 60
"""Taken off a key, it puts the candidate behind all others."""

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class ScoreError(ValueError):
    """Scores that cannot be measured; the message names stage, rule and remedy."""


class GroundTruth(NamedTuple):
    """What the answers to B requests are measured by."""

    order_BN: Int64
    """The candidates in the order that decides between equal scores, the preferred first. All
    below is in this order."""
    competes_BN: Bool
    """True where a candidate can take a place."""
    relevant_BN: Bool
    """What a stage should keep."""
    relevant_to_all_BN: Bool
    """What all stages in a row should keep."""
    gains_BN: Float32
    """At least 0, for NDCG."""
    bases_B: Float64
    """What the hits of a request are divided by; 0 where nothing is relevant."""
    averages_ties: bool
    """NDCG is the mean over the orders of equal scores."""


class Measures(NamedTuple):
    """How B requests were answered; everything in [0, 1]. NaN where nothing is relevant."""

    joint_recall_B: Float64
    """Of what is left after the last stage."""
    recall_SB: Float64
    """Of what each stage keeps when it chooses among all candidates."""
    ndcg_SB: Float64
    """NDCG@10 of each stage over all candidates."""


def paper_truth(
    judgments: Judgments, empty_labels_E: Float32, truth: int, stages: int, order_N: Int64
) -> GroundTruth:
    """Ground truth as the published code has it.

    Args:
        judgments: about the E slots of a request and the negatives after them.
        empty_labels_E: the label that an empty slot has.
        truth: how many are relevant.
        stages: of the cascade. The joint recall of three leaves empty slots out of the truth, that
            of two does not.
        order_N: a permutation of the candidates.
    """
    grades_BN, valid_BN = judgments.grades_BN.numpy(), judgments.valid_BN.numpy()
    E = len(empty_labels_E)
    gains_BN = grades_BN.copy()
    gains_BN[:, :E] = np.where(valid_BN[:, :E], grades_BN[:, :E], empty_labels_E)
    everything_BN = np.ones_like(valid_BN)
    labels_BN = (grades_BN * valid_BN)[:, order_N]
    relevant_BN = _keep_top(_keys(labels_BN), everything_BN, truth)
    return GroundTruth(
        np.broadcast_to(order_N, valid_BN.shape),
        competes_BN=everything_BN,
        relevant_BN=relevant_BN,
        relevant_to_all_BN=relevant_BN & valid_BN[:, order_N] if stages > 2 else relevant_BN,
        gains_BN=gains_BN[:, order_N],
        bases_B=np.full(len(valid_BN), truth, dtype=np.float64),
        averages_ties=True,
    )


def strict_truth(judgments: Judgments) -> GroundTruth:
    """Ground truth that no quirk of the data can flatter."""
    valid_BN, grades_BN = judgments.valid_BN.numpy(), judgments.grades_BN.numpy()
    relevant_BN = judgments.relevant_BN.numpy() & valid_BN
    keys_BN = _keys(grades_BN) + relevant_BN * np.int64(_LAST)
    order_BN = _columns(np.sort(keys_BN, axis=1))
    return GroundTruth(
        order_BN,
        competes_BN=np.take_along_axis(valid_BN, order_BN, axis=1),
        relevant_BN=np.take_along_axis(relevant_BN, order_BN, axis=1),
        relevant_to_all_BN=np.take_along_axis(relevant_BN, order_BN, axis=1),
        gains_BN=np.take_along_axis(grades_BN * valid_BN, order_BN, axis=1),
        bases_B=relevant_BN.sum(axis=1, dtype=np.float64),
        averages_ties=False,
    )


def measures(stage_scores: Sequence[Tensor], keeps: Sequence[int], truth: GroundTruth) -> Measures:
    """Measure the answers of a cascade.

    Args:
        stage_scores: float [B, N] of each stage, the first stage first; candidates in the order of
            the judgments. Compared as float32.
        keeps: how many candidates each stage passes on.
        truth: what is measured by.

    Raises:
        ScoreError: a score of a candidate that competes is not finite.
    """
    alive_BN = truth.competes_BN
    bases_B = np.where(truth.bases_B > 0, truth.bases_B, np.nan)
    recalls, ndcgs = [], []
    for number, (tensor_BN, keep) in enumerate(zip(stage_scores, keeps, strict=True), start=1):
        scores_BN = tensor_BN.detach().float().cpu().numpy()
        scores_BN = np.take_along_axis(scores_BN, truth.order_BN, axis=1)
        broken = int((~np.isfinite(scores_BN) & truth.competes_BN).sum())
        if broken:
            raise ScoreError(
                f"stage {number} of {len(keeps)} gave {broken} scores that are not finite; the run "
                "diverged, train it again with a lower learning_rate"
            )
        keys_BN = _keys(scores_BN)
        kept_BN = _keep_top(keys_BN, truth.competes_BN, keep)
        recalls.append(_hits(kept_BN, truth.relevant_BN) / bases_B)
        ndcgs.append(_ndcg(scores_BN, keys_BN, truth))
        alive_BN = _keep_top(keys_BN, alive_BN, keep)
    joint_B = _hits(alive_BN, truth.relevant_to_all_BN) / bases_B
    return Measures(joint_B, np.stack(recalls), np.stack(ndcgs))


def published_negatives(
    requests: int, slots: int, count: int, random: np.random.Generator
) -> Int64:
    """Draw slots of other requests for each request, empty ones and its own items included.

    Uniform without replacement over the other requests' slots, as the published evaluation draws
    them; by Floyd's algorithm (Bentley and Floyd 1987), since a weight for every pair of a request
    and a slot, as published, takes gigabytes.

    Args:
        requests: B.
        slots: of each request.
        count: N, at most `(requests - 1) * slots`.
        random: where the numbers come from.

    Returns:
        [B, N], places in the flattened slots: `b * slots + s`.

    Raises:
        ScoreError: the other requests have fewer slots.
    """
    others = (requests - 1) * slots
    if count > others:
        raise ScoreError(
            f"negatives == {count} is more than the {others} slots of the other requests of a "
            f"batch of {requests}; raise batch_size"
        )
    drawn_NB = np.empty((count, requests), dtype=np.int64)
    for row, last in enumerate(range(others - count, others)):
        draw_B = random.integers(0, last, requests, endpoint=True)
        known_B = (drawn_NB[:row] == draw_B).any(axis=0)
        drawn_NB[row] = np.where(known_B, last, draw_B)
    drawn_NB += slots * (drawn_NB >= np.arange(requests) * slots)
    return np.ascontiguousarray(drawn_NB.T)


def _keys(scores_BN: Float32) -> Int64:
    """Whole numbers in the order of the scores; the first of equal scores gets the highest."""
    bits_BN = (scores_BN + np.float32(0)).view(np.int32)  # -0 + 0 is 0
    ordered_BN = np.where(bits_BN < 0, bits_BN ^ np.int32(0x7FFFFFFF), bits_BN).astype(np.int64)
    columns = scores_BN.shape[1]
    assert columns < 1 << _COLUMN_BITS
    return (ordered_BN << _COLUMN_BITS) - np.arange(columns)


def _columns(keys_BN: Int64) -> Int64:
    """Columns whose keys these are."""
    return -keys_BN & ((1 << _COLUMN_BITS) - 1)


def _keep_top(keys_BN: Int64, alive_BN: Bool, keep: int) -> Bool:
    N = keys_BN.shape[1]
    if keep >= N:
        return alive_BN
    keys_BN = np.where(alive_BN, keys_BN, keys_BN - _LAST)
    kept_BN: Bool = keys_BN >= np.partition(keys_BN, N - keep, axis=1)[:, N - keep, None]
    return kept_BN & alive_BN


def _hits(kept_BN: Bool, relevant_BN: Bool) -> Int64:
    return np.asarray((kept_BN & relevant_BN).sum(axis=1))


def _ndcg(scores_BN: Float32, keys_BN: Int64, truth: GroundTruth) -> Float64:
    """Linear gain over log2(1 + place), divided by that of the best order."""
    top = min(NDCG_AT, scores_BN.shape[1])
    discounts = 1 / np.log2(np.arange(2, top + 2))
    keys_BN = np.where(truth.competes_BN, keys_BN, keys_BN - _LAST)
    sorted_BN = np.sort(keys_BN, axis=1)[:, ::-1]
    columns = _columns(sorted_BN[:, :top])
    ranked: Float64 = np.take_along_axis(truth.gains_BN, columns, axis=1).astype(np.float64)
    if truth.averages_ties:
        rows = np.flatnonzero(_tied(sorted_BN[:, : top + 1]))
        ranked[rows] = _mean_of_equals(scores_BN[rows], truth.gains_BN[rows], columns[rows])
    best = np.sort(truth.gains_BN, axis=1)[:, : -top - 1 : -1] @ discounts
    return np.asarray(ranked @ discounts / np.where(best > 0, best, np.nan))


def _tied(keys: Int64) -> Bool:
    """True for the rows in which two neighbours have the same score."""
    scores = (keys + ((1 << _COLUMN_BITS) - 1)) >> _COLUMN_BITS
    return np.asarray((scores[:, 1:] == scores[:, :-1]).any(axis=1))


def _mean_of_equals(scores_BN: Float32, gains_BN: Float32, columns: Int64) -> Float64:
    """Mean gain of the candidates that score like each of some columns."""
    means = np.empty(columns.shape)
    for place in range(columns.shape[1]):
        equal_BN = scores_BN == scores_BN[np.arange(len(columns)), columns[:, place], None]
        sums_B = (gains_BN * equal_BN).sum(axis=1, dtype=np.float64)
        means[:, place] = sums_B / equal_BN.sum(axis=1)
    return means
