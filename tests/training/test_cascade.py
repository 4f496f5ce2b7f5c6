"""What the offline cascade answers, against the same computed one candidate at a time."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.cascade import build_cascade, candidate_rows, feature_schema, recommend
from training.config import RankConfig, RetrievalConfig, TrainConfig
from training.data.dataset import PreparedDataset, Split
from training.data.requests import request_tensors
from training.features import OOV

CONFIG = TrainConfig(
    name="tiny",
    history_length=25,
    retrieval=RetrievalConfig(width=4, keep=5, history_candidates=3),
    rank=RankConfig(width=4, hidden=(8, 4), attention_units=2, attention_length=5),
)
ALL = np.ones(9, dtype=np.bool_)


class TestCandidateRows:
    recalled = np.array([4, 7])

    def _rows(self, history: list[int], most: int, available: NDArray[np.bool_] = ALL) -> list[int]:
        rows: list[int] = candidate_rows(
            self.recalled, np.array(history, dtype=np.int64), most, available
        ).tolist()
        return rows

    def test_newest_distinct_items_of_the_history_join(self) -> None:
        assert self._rows([9, 2, 9, 2, 5, 1], most=3) == [4, 7, 9, 2, 5]

    def test_recalled_ones_do_not_join_twice_but_count(self) -> None:
        assert self._rows([7, 2, 5], most=2) == [4, 7, 2]

    def test_unknown_and_unavailable_ones_do_not_count(self) -> None:
        available = ALL.copy()
        available[2 - 1] = False
        assert self._rows([OOV, 2, OOV, 5, 1, 3], most=2, available=available) == [4, 7, 5, 1]

    def test_empty_history_and_none_wanted(self) -> None:
        assert self._rows([], most=3) == [4, 7]
        assert self._rows([1, 2], most=0) == [4, 7]


def test_schema_is_the_datasets(random_dataset: PreparedDataset) -> None:
    schema = feature_schema(random_dataset.meta, CONFIG)
    assert schema.user == random_dataset.meta.user_fields
    assert schema.context == random_dataset.meta.context_fields
    assert schema.item == random_dataset.meta.item_fields
    assert schema.history_length == 25


@pytest.mark.parametrize("num", [1, 4, 20])
@pytest.mark.parametrize("unavailable", [0, 3, 9])
def test_recommend_by_brute_force(
    random_dataset: PreparedDataset, num: int, unavailable: int
) -> None:
    cascade = build_cascade(random_dataset.meta, random_dataset.arrays, CONFIG).eval()
    items = len(random_dataset.items) - 1
    available = np.ones(items, dtype=np.bool_)
    available[:unavailable] = False
    requests = np.concatenate([random_dataset.requests(split)[:9] for split in Split])
    batch = request_tensors(random_dataset.arrays, requests, CONFIG.history_length)
    with torch.inference_mode():
        vectors = cascade.retrieval.encode_items()
        answers = recommend(cascade, vectors, batch, CONFIG, num, available)
        assert answers.rows_BK.shape == (len(requests), num)
        for line in range(len(requests)):
            one = [tensor[line : line + 1] for tensor in batch]
            user = cascade.retrieval.encode_user(*one)[0]
            allowed = [row for row in range(1, items + 1) if available[row - 1]]
            nearest = sorted(allowed, key=lambda row: -float(user @ vectors[row - 1]))
            candidates = nearest[: max(CONFIG.retrieval.keep, num)]
            history = one[2][0, : int(one[4])].tolist()
            own = [row for row in dict.fromkeys(history) if row in allowed][:3]
            candidates += [row for row in own if row not in candidates]
            assert sorted(answers.candidates[line].tolist()) == sorted(candidates)
            scores = {row: cascade.rank(*one, torch.tensor([[row]])).item() for row in candidates}
            answer = answers.rows_BK[line].tolist()
            best = sorted(scores.values(), reverse=True)[:num]
            assert len(set(answer[: len(best)])) == len(best)
            # Compared by score, so that neighbours which differ by rounding may swap.
            answered = [scores[row] for row in answer[: len(best)]]
            assert answered == pytest.approx(best, abs=1e-6)
            assert answer[len(best) :] == [OOV] * (num - len(best))


def test_no_requests_have_no_answers(random_dataset: PreparedDataset) -> None:
    cascade = build_cascade(random_dataset.meta, random_dataset.arrays, CONFIG).eval()
    nothing = request_tensors(random_dataset.arrays, np.zeros(0, dtype=np.int64), 25)
    available = np.ones(len(random_dataset.items) - 1, dtype=np.bool_)
    with torch.inference_mode():
        answers = recommend(
            cascade, cascade.retrieval.encode_items(), nothing, CONFIG, 5, available
        )
    assert answers.rows_BK.shape == (0, 5)
    assert answers.candidates == []
