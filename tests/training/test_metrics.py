"""Expectations are written as the arithmetic that the metrics stand for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.dataset import Arrays
from training.features import OOV
from training.metrics import candidate_recall, hits

EMPTY: NDArray[Any] = np.zeros(0, dtype=np.int64)
TRUTH = {  # item row -> micros, of each request
    0: {3: 1_000_000, 5: 250_000, 9: 2_000_000},
    1: {7: 40_000},
    2: {1: 10, 2: 20, 3: 30, 4: 40},
}
ARRAYS = Arrays(**dict.fromkeys(Arrays._fields, EMPTY))._replace(
    truth_starts=np.array([0, 3, 4, 8]),
    truth_rows=np.array([row for truth in TRUTH.values() for row in truth], dtype=np.int32),
    truth_micros=np.array([m for truth in TRUTH.values() for m in truth.values()]),
)


def test_hits_request_by_request() -> None:
    answers = np.array([[9, 8, 5], [1, 2, OOV], [4, 6, 1]])
    result = hits(ARRAYS, np.array([0, 1, 2]), answers)
    assert result.recall_B.tolist() == [2 / 3, 0 / 1, 2 / 3]  # the last can hold 3 of its 4
    assert result.revenue_micros_B.tolist() == [250_000 + 2_000_000, 0, 10 + 40]
    assert result.bought_micros_B.tolist() == [1_000_000 + 250_000 + 2_000_000, 40_000, 100]
    assert result.recall == pytest.approx(1 / 3 * (2 / 3 + 0 / 1 + 2 / 3))
    assert result.revenue_share == (2_250_000 + 0 + 50) / (3_250_000 + 40_000 + 100)
    assert result.revenue_per_request == pytest.approx((2_250_000 + 0 + 50) / 1e6 / 3)


def test_requests_in_any_order_and_number() -> None:
    result = hits(ARRAYS, np.array([2, 0]), np.array([[3], [3]]))
    assert result.recall_B.tolist() == [1 / 1, 1 / 1]
    assert result.revenue_micros_B.tolist() == [30, 1_000_000]


def test_an_answer_that_repeats_itself_counts_once() -> None:
    result = hits(ARRAYS, np.array([0]), np.array([[3, 3, 3]]))
    assert result.recall_B.tolist() == [1 / 3]
    assert result.revenue_micros_B.tolist() == [1_000_000]


def test_no_requests() -> None:
    result = hits(ARRAYS, EMPTY, np.zeros((0, 5), dtype=np.int64))
    assert (result.recall, result.revenue_share, result.revenue_per_request) == (0.0, 0.0, 0.0)
    assert candidate_recall(ARRAYS, EMPTY, []) == 0.0


def test_candidate_recall_has_all_bought_items_below() -> None:
    candidates = [np.array([3, 5]), np.array([7, 8]), np.array([4])]
    recall = candidate_recall(ARRAYS, np.array([0, 1, 2]), candidates)
    assert recall == pytest.approx(1 / 3 * (2 / 3 + 1 / 1 + 1 / 4))
