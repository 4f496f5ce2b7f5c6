"""NeuralSort, SoftSort and DiffSort as mathematics: values, gradients, ties, edges, laws."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from operators import hard_topk
from operators.diffsort import diffsort_topk
from operators.permutation import neuralsort_topk, softsort_topk
from tests.operators import dense

NAN, INF = float("nan"), float("inf")
Operator = Callable[..., Tensor]
DENSE: dict[Operator, Callable[[dense.Float64, float], dense.Float64]] = {
    neuralsort_topk: dense.neuralsort,
    softsort_topk: dense.softsort,
    diffsort_topk: dense.diffsort,
}
each = pytest.mark.parametrize("operator", list(DENSE))
equivariant = pytest.mark.parametrize("operator", [neuralsort_topk, softsort_topk])


def scores_of(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient_of(operator: Operator, scores: Tensor, upstream: Tensor, *arguments: object) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((operator(leaf, *arguments) * upstream).sum(), leaf)
    return gradient


@each
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("tau", [0.1, 1.0, 30.0])
def test_values_equal_a_dense_matrix_at_every_k(operator: Operator, n: int, tau: float) -> None:
    scores = scores_of(3, n)
    for k in range(-1, n + 2):
        expected = [dense.soft_mask(DENSE[operator], row.numpy(), k, tau) for row in scores]
        np.testing.assert_allclose(operator(scores, k, tau), expected, rtol=1e-11, atol=1e-14)


@each
def test_masks_and_k_per_row_equal_a_dense_matrix(operator: Operator) -> None:
    scores, mask = scores_of(40, 11), scores_of(40, 11, seed=1) > -0.4
    k = torch.arange(40) % 12
    expected = [
        dense.soft_mask(DENSE[operator], row.numpy(), int(places), 0.8, valid.numpy())
        for row, places, valid in zip(scores, k, mask, strict=True)
    ]
    np.testing.assert_allclose(operator(scores, k, 0.8, mask), expected, rtol=1e-11, atol=1e-14)
    assert torch.equal(operator(scores, torch.tensor(4), 0.8, mask), operator(scores, 4, 0.8, mask))


@each
@pytest.mark.parametrize("shape", [(5,), (2, 7), (2, 1, 4)])
@pytest.mark.parametrize("k", [0, 1, 3, 7])
@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_first_and_second_gradients(
    operator: Operator, shape: tuple[int, ...], k: int, tau: float
) -> None:
    scores = scores_of(*shape).requires_grad_()
    assert gradcheck(lambda s: operator(s, k, tau), (scores,))
    assert gradgradcheck(lambda s: operator(s, k, tau), (scores,))


@each
def test_gradients_with_mask_and_k_per_row(operator: Operator) -> None:
    scores = scores_of(4, 6).requires_grad_()
    mask = torch.arange(6) < torch.tensor([[6], [4], [2], [0]])
    k = torch.tensor([2, 3, 2, 1])
    assert gradcheck(lambda s: operator(s, k, 0.7, mask), (scores,))
    assert gradgradcheck(lambda s: operator(s, k, 0.7, mask), (scores,))


TIED = [[3.0, 1, 1, 1, 0], [2.0, 2, 1, 1, 0], [1.0, 1, 1, 1, 1], [4.0, 2, 3, 2, 0]]


@equivariant
@pytest.mark.parametrize("row", TIED)
def test_values_and_gradients_are_permutation_equivariant(
    operator: Operator, row: list[float]
) -> None:
    scores, upstream = torch.tensor(row, dtype=torch.float64), scores_of(5, seed=1)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-14)
    gradient = gradient_of(operator, scores, upstream, 2)
    for seed in range(10):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        close(operator(scores[order], 2), operator(scores, 2)[order])
        close(gradient_of(operator, scores[order], upstream[order], 2), gradient[order])


def test_ties_share_the_gradient_of_a_sorted_score() -> None:
    # Place 1 is the height m of two tied candidates, so p = softmax(0, 0, -(m - s_3)).
    scores = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    third = np.exp(-1) / (2 + np.exp(-1))
    upstream = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    slope = third * (1 - third)
    expected = [-slope / 2, -slope / 2, slope]
    np.testing.assert_allclose(gradient_of(softsort_topk, scores, upstream, 1), expected)


def test_ties_stand_at_no_distance_whose_sign_could_be_chosen() -> None:
    # Place 1 of three: logits 2 s_j - |s_j - s_l| - ..., in which only |s_3 - s_1| has a slope.
    scores = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    weights = np.exp([2 - 1, 2 - 1, 0 - 2])
    p = weights / weights.sum()
    upstream = np.array([0.0, 0.0, 1.0])
    logits_by_score = np.array([[2 - 1, 0, 1], [0, 2 - 1, 1], [-1, -1, 2 + 2]])
    expected = (upstream * p - p * (upstream @ p)) @ logits_by_score
    gradient = gradient_of(neuralsort_topk, scores, torch.from_numpy(upstream), 1)
    np.testing.assert_allclose(gradient, expected, atol=1e-15)


@equivariant
def test_column_sums_above_1_are_cut_off_and_have_no_gradient(operator: Operator) -> None:
    # Three close scores and two places: the middle one of them is the likeliest for both.
    scores = torch.tensor([0.1, 0.0, -0.1, -9.0], dtype=torch.float64)
    full = DENSE[operator](scores.numpy(), 0.08)[:3].sum(0)
    assert full.max() > 1
    assert float(operator(scores, 3, 0.08).max()) == 1
    upstream = torch.from_numpy(full > 1).double()
    assert gradient_of(operator, scores, upstream, 3, 0.08).tolist() == [0.0] * 4


@equivariant
def test_the_best_may_get_less_than_the_second(operator: Operator) -> None:
    # The documented limit: an operator that passes this test needs another docstring.
    tau = 12.0 if operator is neuralsort_topk else 4.0
    soft = operator(torch.tensor([4.0, 3.0, 2.0, 0.0, -1.0, -2.0, -3.0]), 3, tau)
    assert soft[0] < soft[1]


@each
@pytest.mark.parametrize("k", [-1, 0, 3, 4])
def test_decided_rows_are_exact_and_have_no_gradient(operator: Operator, k: int) -> None:
    scores = torch.tensor([1.0, INF, NAN]).requires_grad_()
    soft = operator(scores, k)
    assert soft.tolist() == [1.0 if k > 0 else 0.0] * 3
    soft.square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0.0] * 3


@each
def test_masked_entries_have_no_influence(operator: Operator) -> None:
    scores = torch.tensor([[2.0, NAN, 1.0, INF, 0.0]]).requires_grad_()
    mask = torch.tensor([[True, False, True, False, True]])
    soft = operator(scores, 1, mask=mask)
    torch.testing.assert_close(soft[mask], operator(torch.tensor([2.0, 1.0, 0.0]), 1))
    assert soft[~mask].tolist() == [0.0, 0.0]
    soft.square().sum().backward()
    assert scores.grad is not None
    assert scores.grad[~mask].tolist() == [0.0, 0.0]
    assert scores.grad.isfinite().all()
    assert scores.grad[mask].abs().min() > 0


@each
def test_k_per_row_equals_row_by_row(operator: Operator) -> None:
    scores = scores_of(2, 5, 7)
    k = torch.tensor([[-1, 0, 1, 3, 6], [7, 8, 2, 2, 5]])
    rows = [torch.stack([operator(scores[i, j], int(k[i, j])) for j in range(5)]) for i in range(2)]
    torch.testing.assert_close(operator(scores, k), torch.stack(rows))
    shared = operator(scores, k[:, 3:4])
    torch.testing.assert_close(shared, operator(scores, k[:, 3:4].expand(2, 5)))


@each
def test_nan_stays_in_its_row_and_reaches_its_gradient(operator: Operator) -> None:
    scores = torch.tensor([[1.0, NAN, 3.0, 0.0], [1.0, 2.0, 3.0, 0.0]]).requires_grad_()
    valid = torch.tensor([[True, True, True, False], [True, True, True, True]])
    for k in (1, 2, torch.tensor([2, 1])):
        soft = operator(scores, k, mask=valid)
        assert soft[0].tolist() == pytest.approx([NAN, NAN, NAN, 0.0], nan_ok=True)
        assert soft[1].isfinite().all()
        assert operator(scores, k)[0].isnan().all()
        (gradient,) = torch.autograd.grad(soft.square().sum(), scores)
        assert gradient[0, [0, 2]].isnan().all()
        assert gradient[1].isfinite().all()


@each
@pytest.mark.parametrize(
    ("row", "k", "expected"),
    [
        ([INF, 1.0, 0.0], 1, [1.0, 0.0, 0.0]),
        ([INF, INF, 0.0], 1, [1.0, 1.0, 0.0]),
        ([-INF, -INF, -INF], 1, [0.0, 0.0, 0.0]),
        ([-INF, 1.0, INF, 2.0, 4.0], 4, [0.0, 1.0, 1.0, 1.0, 1.0]),
        ([-INF, 1.0, INF, 2.0, 4.0, 0.0], 1, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        ([3e38, -INF, -3e38], 1, [1.0, 0.0, 0.0]),
    ],
)
def test_infinities_are_certain_and_have_no_gradient(
    operator: Operator, row: list[float], k: int, expected: list[float]
) -> None:
    for dtype in (torch.float32, torch.float64):
        scores = torch.tensor(row, dtype=dtype).requires_grad_()
        soft = operator(scores, k)
        assert soft.tolist() == expected
        soft.square().sum().backward()
        assert scores.grad is not None
        assert scores.grad[scores.isinf()].tolist() == [0.0] * int(scores.isinf().sum())
        assert scores.grad.abs().max() < 1e-30


@each
def test_finite_entries_compete_for_the_places_that_are_left(operator: Operator) -> None:
    scores = torch.tensor([INF, 1.0, -INF, 0.5, 0.0, INF], requires_grad=True)
    soft = operator(scores, 3)
    finite = torch.tensor([1.0, 0.5, 0.0], requires_grad=True)
    torch.testing.assert_close(soft[[1, 3, 4]], operator(finite, 1))
    assert soft[[0, 2, 5]].tolist() == [1.0, 0.0, 1.0]
    (gradient,) = torch.autograd.grad(soft.square().sum(), scores)
    (expected,) = torch.autograd.grad(operator(finite, 1).square().sum(), finite)
    torch.testing.assert_close(gradient[[1, 3, 4]], expected)
    assert gradient[[0, 2, 5]].tolist() == [0.0] * 3


@each
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (2, 0, 3)])
@pytest.mark.parametrize("k_per_row", [False, True])
def test_empty_input_gives_empty_output(
    operator: Operator, shape: tuple[int, ...], k_per_row: bool
) -> None:
    scores = torch.empty(shape, requires_grad=True)
    k = torch.ones(shape[:-1], dtype=torch.int64) if k_per_row else 1
    soft = operator(scores, k, mask=torch.ones(shape, dtype=torch.bool))
    assert soft.shape == shape
    soft.sum().backward()
    assert scores.grad is not None
    assert scores.grad.shape == shape


@each
def test_layout_does_not_matter_and_the_caller_s_scores_are_left_alone(operator: Operator) -> None:
    strided = scores_of(6, 4, 5).transpose(0, 2)[::2]
    before = strided.clone()
    assert not strided.is_contiguous()
    assert torch.equal(operator(strided, 2), operator(before, 2))
    assert torch.equal(strided, before)


rows = arrays(np.float64, st.integers(2, 9), elements=st.integers(-40, 40).map(lambda v: v / 8))


@each
@settings(max_examples=60)
@given(row=rows, k=st.integers(1, 8), tau=st.floats(0.05, 20), seed=st.integers(0, 2**16))
def test_laws(operator: Operator, row: NDArray[np.float64], k: int, tau: float, seed: int) -> None:
    scores, k = torch.from_numpy(row), min(k, len(row) - 1)
    soft = operator(scores, k, tau)
    close = partial(torch.testing.assert_close, rtol=1e-8, atol=1e-11)
    close(operator(scores + 0.25, k, tau), soft)  # shift
    close(operator(4 * scores, k, 4 * tau), soft)  # scale
    assert float(soft.min()) >= 0
    assert float(soft.max()) <= 1
    assert float(soft.sum()) <= k + 1e-9
    upstream = scores_of(len(row), seed=seed)
    gradient = gradient_of(operator, scores, upstream, k, tau)
    assert abs(float(gradient.sum())) < 1e-8 * max(1, 1 / tau)  # a common shift changes nothing
    if operator is diffsort_topk:
        assert float(soft.sum()) == pytest.approx(k, abs=1e-9)
        return
    order = torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))
    close(operator(scores[order], k, tau), soft[order])
    shuffled = gradient_of(operator, scores[order], upstream[order], k, tau)
    close(shuffled, gradient[order], rtol=1e-7, atol=1e-9)


@each
def test_soft_tends_to_hard_as_tau_falls(operator: Operator) -> None:
    scores = scores_of(8, 30)
    hard = hard_topk(scores, 7)
    taus = (10, 1, 0.1, 1e-2, 1e-3, 1e-5)
    errors = [float((operator(scores, 7, tau) - hard).abs().sum()) for tau in taus]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1


@equivariant
def test_large_scores_and_many_candidates_keep_float32_precise(operator: Operator) -> None:
    scores = (scores_of(2, 1000) + 1e4).float()
    tau = 300.0 if operator is neuralsort_topk else 0.3
    wide = operator(scores.double(), 100, tau)
    np.testing.assert_allclose(operator(scores, 100, tau), wide, rtol=1e-3, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@each
def test_no_square_matrix_is_made(operator: Operator) -> None:
    n, k = 512, 3
    scores = scores_of(n).requires_grad_()
    with LargestTensor() as largest:
        operator(scores, k).square().sum().backward()
    assert n <= largest.elements <= (n + 1 if operator is diffsort_topk else k * n)


@each
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": torch.tensor(1.0)}, r"scores has no dimension .* pass scores.reshape\(1\)"),
        ({"tau": 0.0}, r"tau == 0.0 must be finite and above 0; use hard_topk"),
        ({"k": 1.5}, r"k == 1.5 must be an int or an integer tensor"),
        ({"k": torch.tensor([1, 2, 3])}, r"k of shape \[3\] must broadcast to the \[2\] rows"),
        ({"mask": torch.ones(2, 3)}, r"mask of torch.float32 must be torch.bool"),
    ],
)
def test_wrong_arguments_are_named(
    operator: Operator, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        operator(**{"scores": torch.ones(2, 3), "k": 1, **arguments})
