"""What holds for the sorting network alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from operators import hard_topk
from operators.diffsort import diffsort_topk
from tests.operators import dense


def scores_of(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_two_candidates_by_hand() -> None:
    soft = diffsort_topk(torch.tensor([4.0, 2.0], dtype=torch.float64), 1, tau=0.5)
    stay = 0.5 + np.arctan((4 - 2) / 0.5) / np.pi
    np.testing.assert_allclose(soft, [stay, 1 - stay], rtol=1e-15)


@pytest.mark.parametrize("n", range(1, 18))
def test_the_network_sorts_everything_that_is_0_or_1(n: int) -> None:
    # A network that sorts these sorts all (zero-one principle); a tiny tau makes it one.
    rows = torch.cartesian_prod(*[torch.arange(2.0)] * min(n, 10)).reshape(-1, min(n, 10))
    rows = torch.nn.functional.pad(rows, (n - min(n, 10), 0), value=0.5)
    rows = rows + torch.linspace(0, 0.1, n)  # no ties
    for k in range(1, n):
        soft = diffsort_topk(rows, k, tau=1e-7)
        torch.testing.assert_close(soft, hard_topk(rows, k), rtol=0, atol=1e-3)


@pytest.mark.parametrize("n", [3, 8, 13])
def test_padding_changes_nothing(n: int) -> None:
    scores = scores_of(4, n)
    alone = diffsort_topk(scores, 2)
    for more in (1, 4, 30):
        wide = torch.nn.functional.pad(scores, (0, more), value=5.0)
        mask = torch.arange(n + more).expand_as(wide) < n
        padded = diffsort_topk(wide, 2, mask=mask)
        torch.testing.assert_close(padded[:, :n], alone, rtol=1e-13, atol=1e-15)
        assert padded[:, n:].count_nonzero() == 0


def test_masked_entries_may_stand_between_the_others() -> None:
    scores = scores_of(6)
    alone = diffsort_topk(scores, 2)
    spread = torch.full((9,), 7.0, dtype=torch.float64)
    mask = torch.tensor([0, 1, 1, 0, 1, 1, 1, 1, 0]).bool()
    spread[mask] = scores
    torch.testing.assert_close(diffsort_topk(spread, 2, mask=mask)[mask], alone)


def test_sums_to_k_in_float32() -> None:
    scores = scores_of(16, 300).float()
    soft = diffsort_topk(scores, 70, tau=0.1)
    torch.testing.assert_close(soft.sum(-1), torch.full((16,), 70.0), rtol=1e-5, atol=0)
    assert soft.min() >= 0
    assert soft.max() <= 1


def test_float32_follows_float64() -> None:
    scores = (scores_of(2, 1000) + 100).float()
    wide = diffsort_topk(scores.double(), 100, 0.1)
    np.testing.assert_allclose(diffsort_topk(scores, 100, 0.1), wide, rtol=2e-3, atol=1e-4)


def test_sorted_scores_are_monotone_in_every_score() -> None:
    # Why the comparator is Cauchy's: with the logistic one some of these slopes are negative.
    def sorted_scores(row: Tensor, stay: str) -> Tensor:
        heights = list(row)
        for a, b in dense.comparators(0, len(row)):
            gap = heights[a] - heights[b]
            weight = gap.sigmoid() if stay == "logistic" else gap.atan() / torch.pi + 0.5
            heights[a], heights[b] = (
                torch.lerp(heights[b], heights[a], weight),
                torch.lerp(heights[a], heights[b], weight),
            )
        return torch.stack(heights)

    def lowest_slope(stay: str) -> float:
        slopes = [
            torch.autograd.functional.jacobian(lambda r: sorted_scores(r, stay), 3 * row)
            for row in scores_of(20, 5)
        ]
        return float(torch.stack(slopes).min())

    assert lowest_slope("cauchy") >= -1e-12
    assert lowest_slope("logistic") < -1e-3


def test_order_of_the_candidates_matters_off_the_hard_limit() -> None:
    # The documented limit: an operator that passes this test needs another docstring.
    row = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    soft = diffsort_topk(row, 2)
    assert float(soft[:3].max() - soft[:3].min()) > 0.01
