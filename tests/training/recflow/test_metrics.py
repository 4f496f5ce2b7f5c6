"""Metrics of a cascade: by hand, and against a slow reference in plain Python."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from training.losses.judgments import Judgments
from training.recflow.metrics import (
    GroundTruth,
    ScoreError,
    measures,
    paper_truth,
    published_negatives,
    strict_truth,
)

NAN = float("nan")


def judge(
    grades: list[float], truth: int = 2, padded: tuple[int, ...] = (), sampled: int = 0
) -> Judgments:
    """One request; the `truth` best of the valid slots are relevant, the first of equals."""
    valid = [slot not in padded for slot in range(len(grades))]
    own = [slot for slot in range(len(grades) - sampled) if valid[slot]]
    best = sorted(own, key=lambda slot: (-grades[slot], slot))[:truth]
    return Judgments(
        torch.tensor([grades], dtype=torch.float32) * torch.tensor([valid]),
        torch.zeros(1, len(grades), dtype=torch.int64),
        torch.tensor([[slot in best for slot in range(len(grades))]]),
        torch.tensor([valid]),
    )


def score(*stages: list[float]) -> list[Tensor]:
    return [torch.tensor([stage]) for stage in stages]


def as_published(judgments: Judgments, truth: int = 2, stages: int = 2) -> GroundTruth:
    """Of two lists of half the candidates each, whose empty slots are labelled 30 and 7."""
    N = judgments.grades_BN.shape[1]
    labels = np.repeat(np.array([30.0, 7.0], dtype=np.float32), N // 2)
    return paper_truth(judgments, labels, truth, stages, np.arange(N))


def test_recall_and_ndcg_by_hand() -> None:
    truth = strict_truth(judge([30, 29, 7, 7, 5, 5]))
    retrieval = [0.9, 0.1, 0.8, 0.7, 0.6, 0.0]  # keeps 0, 2, 3, 4: one of the two relevant
    ranking = [0.1, 0.9, 0.2, 0.3, 0.0, 0.4]  # alone keeps 1, 5; of what it is given, 3 and 2
    found = measures(score(retrieval, ranking), [4, 2], truth)
    assert found.recall_SB[:, 0].tolist() == [1 / 2, 1 / 2]
    assert found.joint_recall_B.tolist() == [0 / 2]
    log = math.log2
    best = 30 / log(2) + 29 / log(3) + 7 / log(4) + 7 / log(5) + 5 / log(6) + 5 / log(7)
    first = 30 / log(2) + 7 / log(3) + 7 / log(4) + 5 / log(5) + 29 / log(6) + 5 / log(7)
    second = 29 / log(2) + 5 / log(3) + 7 / log(4) + 7 / log(5) + 30 / log(6) + 5 / log(7)
    assert found.ndcg_SB[:, 0] == pytest.approx([first / best, second / best])


def test_each_stage_chooses_among_what_the_one_before_kept() -> None:
    truth = strict_truth(judge([30, 29, 28, 7, 6, 5], truth=3))
    first = [6.0, 5.0, 0.0, 4.0, 3.0, 2.0]  # drops 2
    second = [6.0, 0.0, 5.0, 4.0, 3.0, 2.0]  # would keep 2, drops 1
    third = [0.0, 6.0, 5.0, 4.0, 3.0, 2.0]  # drops 0, then 5
    found = measures(score(first, second, third), [5, 4, 3], truth)
    assert found.recall_SB[:, 0].tolist() == [2 / 3, 2 / 3, 2 / 3]
    assert found.joint_recall_B.tolist() == [0 / 3]
    assert measures(score(first), [5], truth).joint_recall_B.tolist() == [2 / 3]


def test_equal_scores_do_not_flatter() -> None:
    judgments = judge([30, 29, 7, 6, 5, 0, 0], sampled=2)
    found = measures(score([0.5] * 7, [0.5] * 7), [5, 3], strict_truth(judgments))
    assert found.joint_recall_B.tolist() == [0.0]
    assert found.recall_SB[:, 0].tolist() == [0.0, 0.0]
    log = math.log2
    worst = 5 / log(4) + 6 / log(5) + 7 / log(6) + 29 / log(7) + 30 / log(8)
    best = 30 / log(2) + 29 / log(3) + 7 / log(4) + 6 / log(5) + 5 / log(6)
    assert found.ndcg_SB[:, 0] == pytest.approx([worst / best] * 2)
    # 0.0 and -0.0 are equal as well, and negative scores are in order.
    signs = score([0.0, -2.0, -0.0, -1.0, -3.0, -3.0, -3.0])
    assert measures(signs, [1], strict_truth(judgments)).recall_SB.tolist() == [[0.0]]
    assert measures(signs, [2], strict_truth(judgments)).recall_SB.tolist() == [[1 / 2]]
    assert measures(signs, [4], strict_truth(judgments)).recall_SB.tolist() == [[2 / 2]]
    # Whichever of two equal grades is the relevant one, and wherever it stands.
    for relevant in ([True, False], [False, True]):
        even = judge([7, 7])._replace(relevant_BN=torch.tensor([relevant]))
        assert measures(score([1.0, 1.0]), [1], strict_truth(even)).recall_SB.tolist() == [[0.0]]


def test_empty_slots_compete_in_one_protocol_alone() -> None:
    judgments = judge([30, 0, 7, 6], padded=(1,))
    eager = score([0.3, 0.9, 0.2, 0.1])  # the empty slot scores best
    strict = measures(eager, [2], strict_truth(judgments))
    assert strict.recall_SB.tolist() == [[2 / 2]]
    assert strict.ndcg_SB.tolist() == [[1.0]]
    paper = measures(eager, [2], as_published(judgments))
    assert paper.recall_SB.tolist() == [[1 / 2]]
    log = math.log2
    published = 30 / log(2) + 30 / log(3) + 7 / log(4) + 6 / log(5)  # the empty slot gains 30
    assert paper.ndcg_SB[0, 0] == pytest.approx(published / published)
    tail = measures(score([0.3, 0.0, 0.2, 0.1]), [2], as_published(judgments)).ndcg_SB[0, 0]
    assert tail == pytest.approx((30 + 7 / log(3) + 6 / log(4) + 30 / log(5)) / published)


def test_fewer_relevant_than_the_truth() -> None:
    judgments = judge([30, 0, 7, 0], truth=3, padded=(1, 3))
    scores = score([4.0, 3.0, 2.0, 1.0])
    assert measures(scores, [1], strict_truth(judgments)).recall_SB.tolist() == [[1 / 2]]
    assert measures(scores, [3], strict_truth(judgments)).recall_SB.tolist() == [[2 / 2]]
    # As published, two stages count an empty slot as the third hit; the joint recall of three
    # stages does not, and both divide by three.
    two = measures(scores, [3], as_published(judgments, truth=3))
    three = measures(scores, [3], as_published(judgments, truth=3, stages=3))
    assert two.joint_recall_B.tolist() == [3 / 3]
    assert three.joint_recall_B.tolist() == [2 / 3]
    assert three.recall_SB.tolist() == [[3 / 3]]


def test_nothing_relevant_is_no_number() -> None:
    found = measures(score([1.0, 2.0]), [1], strict_truth(judge([0, 0], padded=(0, 1))))
    assert np.isnan([*found.joint_recall_B, *found.recall_SB[0], *found.ndcg_SB[0]]).all()


def test_published_ndcg_is_the_mean_over_the_orders_of_equal_scores() -> None:
    grades, scores = [30.0, 29.0, 7.0, 7.0, 5.0, 5.0], [0.5, 0.2, 0.5, 0.5, 0.2, 0.9]
    log = math.log2
    best = sum(grade / log(2 + place) for place, grade in enumerate(grades))
    gains = []
    for high in itertools.permutations([30.0, 7.0, 7.0]):
        for low in itertools.permutations([29.0, 5.0]):
            ranked = [5.0, *high, *low]
            gains.append(sum(gain / log(2 + place) for place, gain in enumerate(ranked)) / best)
    found = measures(score(scores), [2], as_published(judge(grades)))
    assert found.ndcg_SB[0, 0] == pytest.approx(sum(gains) / len(gains))
    # Equal scores on either side of the cut share the tenth place.
    grades = [30.0, *[7.0] * 10, 5.0]
    scores = [0.0, *(float(place) for place in range(11, 1, -1)), 0.0]
    scores[10] = 0.0
    found = measures(score(scores), [2], as_published(judge(grades)))
    best = 30 / log(2) + sum(7 / log(2 + place) for place in range(1, 10))
    mean = sum(7 / log(2 + place) for place in range(9)) + (30 + 7 + 5) / 3 / log(11)
    assert found.ndcg_SB[0, 0] == pytest.approx(mean / best)


@pytest.mark.parametrize("protocol", ["paper", "strict"])
@pytest.mark.parametrize("keeps", [(9, 5), (11, 7, 3)])
def test_slow_reference(protocol: str, keeps: tuple[int, ...]) -> None:
    """Few different scores and grades, so that most are equal; some lists short, some empty."""
    generator = random.Random(11)
    N, E, truth = 16, 12, 4
    cases: list[Judgments] = []
    stage_scores: list[list[list[float]]] = [[] for _ in keeps]
    for _ in range(120):
        padded = tuple(
            slot for slot in range(E) if generator.random() < generator.choice([0, 0.6, 1])
        )
        grades = [generator.choice([30.0, 29.0, 8.0, 7.0, 5.0]) for _ in range(E)] + [0.0] * (N - E)
        cases.append(judge(grades, truth, padded, sampled=N - E))
        for scores in stage_scores:
            scores.append([generator.choice([-1.5, -0.5, 0.0, 0.5, 2.5]) for _ in range(N)])
    judgments = Judgments(
        *(torch.cat(column) for column in zip(*(c[:4] for c in cases), strict=True))
    )
    labels = np.repeat(np.array([30.0, 7.0], dtype=np.float32), E // 2)
    order = np.random.default_rng(3).permutation(N)
    if protocol == "paper":
        truths = paper_truth(judgments, labels, truth, len(keeps), order)
    else:
        truths = strict_truth(judgments)
    found = measures([torch.tensor(scores) for scores in stage_scores], keeps, truths)
    for case, judged in enumerate(cases):
        scores = [stage[case] for stage in stage_scores]
        if protocol == "paper":
            slow = _paper(judged, labels.tolist(), truth, order.tolist(), scores, keeps)
        else:
            slow = _strict(judged, scores, keeps)
        assert found.joint_recall_B[case] == pytest.approx(slow[0], nan_ok=True)
        assert found.recall_SB[:, case] == pytest.approx(slow[1], nan_ok=True)
        assert found.ndcg_SB[:, case] == pytest.approx(slow[2], nan_ok=True)


Slow = tuple[float, list[float], list[float]]


def _strict(judged: Judgments, scores: list[list[float]], keeps: tuple[int, ...]) -> Slow:
    grades, relevant, valid = (
        tensor[0].tolist() for tensor in (judged.grades_BN, judged.relevant_BN, judged.valid_BN)
    )
    everyone = [c for c in range(len(grades)) if valid[c]]
    if not any(relevant):
        return NAN, [NAN] * len(keeps), [NAN] * len(keeps)

    def ranked(among: list[int], stage: list[float]) -> list[int]:
        return sorted(among, key=lambda c: (-stage[c], relevant[c], grades[c], -c))

    def hits(kept: list[int]) -> float:
        return float(sum(relevant[c] for c in kept) / sum(relevant))

    alive, recalls, ndcgs = everyone, [], []
    best = _dcg(sorted((grades[c] for c in everyone), reverse=True))
    for stage, keep in zip(scores, keeps, strict=True):
        recalls.append(hits(ranked(everyone, stage)[:keep]))
        ndcgs.append(_dcg([grades[c] for c in ranked(everyone, stage)]) / best)
        alive = ranked(alive, stage)[:keep]
    return hits(alive), recalls, ndcgs


def _paper(
    judged: Judgments, empty_labels: list[float], truth: int, order: list[int],
    scores: list[list[float]], keeps: tuple[int, ...],
) -> Slow:  # fmt: skip
    grades, valid = judged.grades_BN[0].tolist(), judged.valid_BN[0].tolist()
    labels = [grade * filled for grade, filled in zip(grades, valid, strict=True)]
    raw = [
        empty_labels[c] if c < len(empty_labels) and not valid[c] else grades[c]
        for c in range(len(grades))
    ]

    def ranked(among: list[int], stage: list[float]) -> list[int]:
        return sorted(among, key=lambda c: (-stage[c], order.index(c)))

    everyone = list(range(len(grades)))
    relevant = set(ranked(everyone, labels)[:truth])
    joint = {c for c in relevant if valid[c]} if len(keeps) == 3 else relevant
    alive, recalls, ndcgs = everyone, [], []
    for stage, keep in zip(scores, keeps, strict=True):
        recalls.append(len(relevant & set(ranked(everyone, stage)[:keep])) / truth)
        gains = []
        for place in ranked(everyone, stage):
            equal = [raw[c] for c in everyone if stage[c] == stage[place]]
            gains.append(sum(equal) / len(equal))
        ndcgs.append(_dcg(gains) / _dcg(sorted(raw, reverse=True)))
        alive = ranked(alive, stage)[:keep]
    return len(joint & set(alive)) / truth, recalls, ndcgs


def _dcg(gains: list[float]) -> float:
    return sum(gain / math.log2(2 + place) for place, gain in enumerate(gains[:10]))


def test_scores_that_are_not_finite_are_refused() -> None:
    judgments = judge([30, 29, 7, 0], padded=(3,))
    lost = score([1.0, 2.0, 3.0, 4.0], [1.0, NAN, math.inf, NAN])
    message = r"stage 2 of 2 gave 2 scores that are not finite; the run diverged, train it again"
    with pytest.raises(ScoreError, match=message):
        measures(lost, [2, 1], strict_truth(judgments))
    unused = score([1.0, 2.0, 3.0, NAN])
    assert measures(unused, [2], strict_truth(judgments)).recall_SB.tolist() == [[1 / 2]]
    with pytest.raises(ScoreError, match="stage 1 of 1 gave 1 scores"):
        measures(unused, [2], as_published(judgments))


def test_published_negatives_are_uniform_over_the_slots_of_others() -> None:
    generator = np.random.default_rng(5)
    counts = np.zeros((4, 12))
    for _ in range(4000):
        drawn_BN = published_negatives(4, 3, 5, generator)
        assert all(len(set(row)) == 5 for row in drawn_BN.tolist())
        np.add.at(counts, (np.arange(4)[:, None], drawn_BN), 1)
    own = np.repeat(np.eye(4, dtype=bool), 3, axis=1)
    assert counts[own].sum() == 0
    # 4000 draws, each with probability 5/9; six standard deviations are 188.
    assert np.abs(counts[~own] - 4000 * 5 / 9).max() < 188
    assert sorted(published_negatives(2, 3, 3, generator)[0]) == [3, 4, 5]
    with pytest.raises(ScoreError, match=r"negatives == 7 is more than the 6 slots .* batch of 3"):
        published_negatives(3, 3, 7, generator)
