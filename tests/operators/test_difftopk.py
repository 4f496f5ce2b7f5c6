"""The permutation operators against difftopk, the library of the authors of DiffSort."""

import contextlib
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from operators.diffsort import diffsort_topk
from operators.permutation import neuralsort_topk, softsort_topk

with contextlib.redirect_stdout(io.StringIO()):  # it prints that torch-sparse is not installed
    import difftopk


def scores_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def neuralsort_oracle(scores: Tensor, k: int, tau: float) -> Tensor:
    matrix: Tensor = difftopk.NeuralSort(tau)(scores)  # lowest score first
    return matrix[:, :, -k:].sum(-1)


def softsort_oracle(scores: Tensor, k: int, tau: float) -> Tensor:
    matrix: Tensor = difftopk.SoftSort(tau)(scores)
    return matrix[:, :k].sum(-2)


def wired(lanes: int) -> list[int]:
    """Lane order in which a network of alternating directions does what the mirrored one does."""
    if lanes == 1:
        return [0]
    half = wired(lanes // 2)
    return half + [lane + lanes // 2 for lane in reversed(half)]


def diffsort_oracle(scores: Tensor, k: int, tau: float) -> Tensor:
    """Of a power of two: others are padded differently there."""
    n = scores.shape[-1]
    order = torch.tensor(wired(n)).flip(0)  # its highest place is the last
    net = difftopk.DiffTopkNet("bitonic", n, k, steepness=1 / tau, distribution="cauchy")
    soft = torch.empty_like(scores)
    soft[:, order] = net(scores[:, order])[1].sum(-1)
    return soft


@pytest.mark.parametrize(
    ("operator", "oracle"),
    [
        (neuralsort_topk, neuralsort_oracle),
        (softsort_topk, softsort_oracle),
        (diffsort_topk, diffsort_oracle),
    ],
)
@pytest.mark.parametrize("n", [2, 4, 8, 32])
@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_values_and_gradients_equal_difftopk(
    operator: Callable[..., Tensor], oracle: Callable[..., Tensor], n: int, tau: float
) -> None:
    scores, upstream = scores_of(6, n), scores_of(6, n).cos()
    for k in {1, n // 2, n - 1}:
        ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
        soft, expected = operator(ours, k, tau), oracle(theirs, k, tau)
        torch.testing.assert_close(soft, expected.clamp(0, 1), rtol=1e-4, atol=1e-5)
        (soft * upstream).sum().backward()
        (expected.clamp(0, 1) * upstream).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
