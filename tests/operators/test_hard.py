"""Exact membership."""

import numpy as np
import pytest
import torch

from operators import hard_topk

NAN = float("nan")
INF = float("inf")


def test_selects_the_largest() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.3], [-1.0, -2.0, -3.0]])
    assert hard_topk(scores, 2).tolist() == [[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]


def test_lower_index_wins_a_tie() -> None:
    assert hard_topk(torch.tensor([0.0, 1.0, 1.0, 1.0]), 2).tolist() == [0.0, 1.0, 1.0, 0.0]


def test_equals_a_stable_sort_in_numpy() -> None:
    scores = torch.randint(0, 6, (50, 20), generator=torch.Generator().manual_seed(0)).double()
    for k in (-1, 0, 1, 7, 19, 20, 30):
        expected = np.zeros((50, 20))
        for row, line in zip(expected, scores.numpy(), strict=True):
            row[np.argsort(-line, kind="stable")[: max(k, 0)]] = 1
        assert torch.equal(hard_topk(scores, k), torch.from_numpy(expected))


def test_masked_entries_are_never_selected() -> None:
    scores = torch.tensor([[9.0, -float("inf"), NAN, 1.0]])
    mask = torch.tensor([[False, True, False, True]])
    assert hard_topk(scores, 1, mask=mask).tolist() == [[0.0, 0.0, 0.0, 1.0]]
    assert hard_topk(scores, 2, mask=mask).tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_k_per_row() -> None:
    scores = torch.arange(3.0).expand(3, 3)
    expected = [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert hard_topk(scores, torch.tensor([0, 2, 5])).tolist() == expected


def test_nan_spoils_its_own_row_unless_the_row_is_decided() -> None:
    result = hard_topk(torch.tensor([[1.0, NAN], [1.0, NAN], [1.0, 2.0]]), torch.tensor([1, 2, 1]))
    assert result[0].isnan().all()
    assert result[1:].tolist() == [[1.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_the_type_of_the_scores(dtype: torch.dtype) -> None:
    assert hard_topk(torch.ones(3, dtype=dtype), 1).dtype == dtype


def test_empty_rows() -> None:
    assert hard_topk(torch.empty(0, 4), 2).shape == (0, 4)
    assert hard_topk(torch.empty(4, 0), 2).shape == (4, 0)


def test_has_no_gradient() -> None:
    assert not hard_topk(torch.ones(3, requires_grad=True), 1).requires_grad


def test_wrong_k_is_named() -> None:
    with pytest.raises(ValueError, match=r"k == 0.5 must be an int"):
        hard_topk(torch.ones(3), 0.5)  # type: ignore[arg-type]


def test_tau_has_no_effect_and_a_mask_is_not_mistaken_for_it() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0])
    for tau in (0.0, 1e-9, 5, float("inf")):
        assert hard_topk(scores, 1, tau).tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(
        ValueError, match=r"tau of shape \[3\] must be a number; pass a mask as mas"
    ):
        hard_topk(scores, 1, scores > 0)  # type: ignore[arg-type]


def test_infinite_scores() -> None:
    row = torch.tensor([-INF, INF, 1.0, INF, -INF])
    assert hard_topk(row, 1).tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]  # a tie, as any other
    assert hard_topk(row, 2).tolist() == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert hard_topk(row, 4).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]  # -inf is out
    assert hard_topk(row, 5).tolist() == [1.0] * 5  # unless there is nothing to decide
