"""The whole matrices of NeuralSort, SoftSort and DiffSort."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from operators import diffsort, neuralsort, softsort
from tests.operators import dense
from tests.operators.tensors import random_mask, random_stages

DENSE: dict[Callable[..., Tensor], Callable[[dense.Float64, float], dense.Float64]] = {
    neuralsort: dense.neuralsort,
    softsort: dense.softsort,
    diffsort: dense.diffsort,
}
each = pytest.mark.parametrize("permutation", list(DENSE))


@each
def test_values_of_the_valid_entries_and_zeros_elsewhere(
    permutation: Callable[..., Tensor],
) -> None:
    scores, mask = random_stages(1, 6, 7)[0], random_mask(6, 7, share=0.6)
    mask[0], mask[1] = True, False
    scores = scores.masked_fill(~mask, torch.nan)
    for matrix, row, valid in zip(permutation(scores, 0.7, mask), scores, mask, strict=True):
        n = int(valid.sum())
        expected = np.zeros((7, 7))
        expected[np.ix_(np.arange(7) < n, valid.numpy())] = (
            DENSE[permutation](row[valid].numpy(), 0.7) if n else 0
        )
        np.testing.assert_allclose(matrix, expected, rtol=1e-11, atol=1e-14)


@each
@pytest.mark.parametrize("shape", [(1,), (4, 1), (0,), (2, 0), (2, 1, 3)])
def test_any_shape(permutation: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    matrix = permutation(torch.zeros(shape))
    assert matrix.shape == (*shape, shape[-1])
    torch.testing.assert_close(matrix.sum(-1), torch.ones(shape))


@each
def test_gradients(permutation: Callable[..., Tensor]) -> None:
    scores = random_stages(1, 3, 5)[0].requires_grad_()
    mask = torch.arange(5) < torch.tensor([[5], [3], [0]])
    assert gradcheck(lambda s: permutation(s, 0.8, mask), (scores,))


@each
def test_a_score_that_is_not_finite_spoils_its_row_alone(
    permutation: Callable[..., Tensor],
) -> None:
    for wrong in (torch.nan, torch.inf, -torch.inf):
        scores = torch.tensor([[wrong, 1.0, 2.0], [0.0, 1.0, 2.0]], requires_grad=True)
        matrix = permutation(scores)
        assert matrix[0].isnan().all()
        assert matrix[1].isfinite().all()
        (slope,) = torch.autograd.grad(matrix[:, 0, 1].sum(), scores)
        assert slope[0].isnan().any()
        assert slope[1].isfinite().all()


@each
def test_half_precision_and_autocast(permutation: Callable[..., Tensor]) -> None:
    scores = random_stages(1, 2, 5)[0].bfloat16()
    expected = permutation(scores.float())
    with torch.autocast("cpu", torch.bfloat16):
        matrix = permutation(scores)
    assert matrix.dtype == torch.bfloat16
    torch.testing.assert_close(matrix, expected.bfloat16(), rtol=0, atol=0)


@each
def test_a_wrong_temperature_is_named(permutation: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="tau == 0 must be finite and above 0"):
        permutation(torch.ones(3), 0)
