"""LapSum, sparse and logistic top-k: values and gradients against other accounts of them.

What holds for every operator (edges, types, laws, transforms) is tested in `test_every_operator*`.
"""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from entmax import budget_bisect
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from operators import (
    CERTAIN,
    TopK,
    hard_topk,
    lapsum,
    lapsum_logits,
    logistic_topk,
    logistic_topk_logits,
    sparse_topk,
)
from tests.operators import exact
from tests.operators.forms import scores_of
from tests.operators.textbook import LapSum, Sparse

MASKS = [lapsum, logistic_topk, sparse_topk]
LOGITS = {lapsum_logits: lapsum, logistic_topk_logits: logistic_topk}
SMOOTH = {lapsum_logits: "lapsum", logistic_topk_logits: "logistic_topk"}

every_mask = pytest.mark.parametrize("operator", MASKS)
every_logits = pytest.mark.parametrize("operator", SMOOTH)


def distribution(operator: TopK) -> Callable[[Tensor], Tensor]:
    if operator is lapsum:
        return lambda z: torch.where(
            z > 0, 1 - 0.5 * torch.exp(-z.abs()), 0.5 * torch.exp(-z.abs())
        )
    return torch.sigmoid if operator is logistic_topk else lambda z: z.clamp(0, 1)


def by_bisection(operator: TopK, row: Tensor, k: int, tau: float) -> Tensor:
    """The soft mask of one row of finite scores, 0 < k < N, by halving an interval."""
    f = distribution(operator)
    low, high = row.min() - 60 * tau, row.max() + 60 * tau
    for _ in range(300):
        middle = (low + high) / 2
        too_many = bool(f((row - middle) / tau).sum() > k)
        low, high = (middle, high) if too_many else (low, middle)
    return f((row - low) / tau)


def gradient(operator: TopK, row: Tensor, k: int, tau: float, upstream: Tensor) -> Tensor:
    leaf = row.clone().requires_grad_()
    (result,) = torch.autograd.grad(operator(leaf, k, tau), leaf, upstream)
    return result


@every_mask
@pytest.mark.parametrize("n", [2, 3, 8, 65, 600])
@pytest.mark.parametrize("tau", [1e-3, 0.1, 1.0, 1e3])
def test_values_equal_bisection(operator: TopK, n: int, tau: float) -> None:
    scores = scores_of(3, n)
    for k in sorted({1, 2, n // 3, n // 2, n - 1} & set(range(1, n))):
        expected = torch.stack([by_bisection(operator, row, k, tau) for row in scores])
        torch.testing.assert_close(operator(scores, k, tau), expected, rtol=1e-7, atol=1e-11)


@every_mask
def test_values_with_mask_and_k_per_row_equal_those_of_the_valid_entries(operator: TopK) -> None:
    scores, k = scores_of(5, 700), torch.tensor([1, 90, 200, 300, 340])
    mask = scores_of(5, 700, seed=1) > 0
    soft = operator(scores, k, 0.3, mask)
    for row in range(5):
        alone = by_bisection(operator, scores[row][mask[row]], int(k[row]), 0.3)
        torch.testing.assert_close(soft[row][mask[row]], alone, rtol=1e-8, atol=1e-12)
    assert not soft[~mask].any()


@pytest.mark.parametrize("k", [1, 5, 29])
@pytest.mark.parametrize("tau", [0.01, 1.0, 50.0])
def test_sparse_is_entmax_s_budget_projection(k: int, tau: float) -> None:
    scores, upstream = scores_of(20, 30).requires_grad_(), scores_of(20, 30, seed=1)
    expected = budget_bisect(scores / tau, budget=k, n_iter=100)
    soft = sparse_topk(scores, k, tau)
    torch.testing.assert_close(soft, expected, rtol=0, atol=1e-12)
    # Its gradient, too, as far as both have the same entries strictly inside.
    inside = soft.detach() > 0
    assert torch.equal(inside & (soft.detach() < 1), (expected > 1e-12) & (expected < 1 - 1e-12))
    (exact_gradient,) = torch.autograd.grad(expected, scores, upstream)
    torch.testing.assert_close(
        gradient(sparse_topk, scores.detach(), k, tau, upstream), exact_gradient
    )


@pytest.mark.parametrize(("operator", "textbook"), [(lapsum, LapSum), (sparse_topk, Sparse)])
@pytest.mark.parametrize("k", [1, 20, 59])
@pytest.mark.parametrize("tau", [0.5, 3.0])
def test_values_and_gradients_equal_the_sort_based_form(
    operator: TopK, textbook: type[LapSum | Sparse], k: int, tau: float
) -> None:
    scores, upstream = scores_of(30, 60).requires_grad_(), scores_of(30, 60, seed=1)
    expected = textbook.apply(scores, k, tau)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(operator(scores, k, tau), expected, rtol=1e-9, atol=1e-11)
    (slope,) = torch.autograd.grad(expected, scores, upstream)
    ours = gradient(operator, scores.detach(), k, tau, upstream)
    torch.testing.assert_close(ours, slope, rtol=1e-8, atol=1e-10)


EXTREMES = [
    ([3.0, 1.0, -2.0, 0.5, 0.0], 2, 1.0),
    ([1e4, -1e4, 5e3, 0.0], 2, 1.0),
    ([1e4, 1e4 + 1, 1e4 + 2.5, 1e4 - 1], 1, 0.5),
    ([1e-3, 0.0, 2e-3, 5e-3], 3, 1e-6),
    ([1.0, 0.0, 2.0, 5.0], 2, 1e6),
    ([0.1, 0.2, 0.4, 1e8], 3, 1e-2),
    ([40.0, 0.0, 39.0, 1.0, 0.5], 2, 1.0),
    ([110.0, 0.0, 109.0, 1.0, 0.5, -3.0], 2, 1.0),
]


@every_logits
@pytest.mark.parametrize(("row", "k", "tau"), EXTREMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_equal_mpmath(
    operator: TopK, row: list[float], k: int, tau: float, dtype: torch.dtype
) -> None:
    scores = torch.tensor(row, dtype=dtype)
    with mpmath.workdps(80):
        true = exact.stage(SMOOTH[operator], scores.tolist(), k, tau)
        logits = [float(mpmath.log(p / q)) for p, q in zip(true.kept, true.lost, strict=True)]
        slope = [
            s * tau / (p * q) for s, p, q in zip(true.slopes, true.kept, true.lost, strict=True)
        ]
        upstream = [mpmath.mpf(u) for u in (0.5, -1.0, 0.25, 2.0, -0.75, 1.0)[: len(row)]]
        pulls = [u * s / tau for u, s in zip(upstream, slope, strict=True)]
        of_logits = [float(p - w * sum(pulls)) for p, w in zip(pulls, true.shares, strict=True)]
        pulls = [u * s for u, s in zip(upstream, true.slopes, strict=True)]
        of_mask = [float(p - w * sum(pulls)) for p, w in zip(pulls, true.shares, strict=True)]
    grads = torch.tensor([float(u) for u in upstream], dtype=dtype)
    eps = torch.finfo(dtype).eps

    def close(actual: Tensor, expected: list[float], scale: float) -> None:
        np.testing.assert_allclose(actual, expected, rtol=400 * eps, atol=100 * eps * scale)

    close(operator(scores, k, tau), logits, 1)
    close(LOGITS[operator](scores, k, tau), [float(p) for p in true.kept], 1e-30)
    close(gradient(operator, scores, k, tau, grads), of_logits, 1 / tau)
    close(gradient(LOGITS[operator], scores, k, tau, grads), of_mask, 1 / tau)


@every_logits
def test_where_densities_underflow_the_threshold_is_shared_by_its_neighbours(
    operator: TopK,
) -> None:
    row, upstream = torch.tensor([3e4, 1e4, -1e4, -5e4]), torch.tensor([1.0, 0, 0, 0])
    assert LOGITS[operator](row, 2).tolist() == [1, 1, 0, 0]
    assert not gradient(LOGITS[operator], row, 2, 1.0, upstream).any()
    assert gradient(operator, row, 2, 1.0, upstream).tolist() == [1, -0.5, -0.5, 0]


@every_mask
def test_equal_scores_have_equal_memberships_and_share_the_gradient(operator: TopK) -> None:
    row, upstream = (
        torch.full((4,), 7.0, dtype=torch.float64),
        torch.tensor([1.0, 0, 0, 0]).double(),
    )
    for tau in (1e-6, 1.0, 1e6):
        assert operator(row, 2, tau).tolist() == [0.5] * 4
        density = {lapsum: 1 / 2, logistic_topk: 1 / 4, sparse_topk: 1}[operator] / tau
        expected = [density * 3 / 4] + [-density / 4] * 3
        np.testing.assert_allclose(gradient(operator, row, 2, tau, upstream), expected, rtol=1e-14)


def test_the_logit_of_lapsum_has_slope_2_at_the_threshold() -> None:
    row, upstream = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, -1.0]).double()
    assert lapsum_logits(row, 1).tolist() == [0, 0]
    assert gradient(lapsum_logits, row, 1, 0.5, upstream).tolist() == [2 / 0.5, -2 / 0.5]


def test_sparse_has_no_gradient_at_its_kinks() -> None:
    # theta = 0: memberships 1 (at the kink), 1/2, 1/2, 0 (at the kink).
    row = torch.tensor([1.0, 0.5, 0.5, 0.0])
    assert sparse_topk(row, 2).tolist() == [1, 0.5, 0.5, 0]
    assert gradient(sparse_topk, row, 2, 1.0, torch.tensor([3.0, 1, 0, 5])).tolist() == [
        0,
        0.5,
        -0.5,
        0,
    ]
    assert not gradient(sparse_topk, row, 1, 0.1, torch.tensor([3.0, 0, 0, 5])).any()


@every_mask
@pytest.mark.parametrize("tau", [1e-45, 1e-30, 1e-6, 1e30, 1e38])
def test_no_temperature_breaks_values_or_gradients(operator: TopK, tau: float) -> None:
    rows = torch.stack(
        [torch.tensor([1.0, 1, 1, 0]), torch.randn(4), torch.tensor([9.0, 1e3, 1, -5])]
    )
    rows = torch.cat([rows, 1e30 * rows, -1e-30 * rows]).requires_grad_()
    soft = operator(rows, 2, tau)
    torch.testing.assert_close(soft.sum(-1), torch.full((9,), 2.0))
    (slope,) = torch.autograd.grad((soft * torch.arange(4)).sum(), rows)
    assert not slope.isnan().any()


@every_logits
def test_infinite_scores_have_finite_logits_without_gradient(operator: TopK) -> None:
    rows = torch.tensor([[np.inf, 1, 0, -np.inf], [np.inf, np.inf, 1, 0], [1, 0, -np.inf, -np.inf]])
    logits = operator(rows.float().requires_grad_(), 2)
    assert logits.isfinite().all()
    # In the first row one place is left for two; in the others infinities leave no choice.
    assert (logits.abs() > CERTAIN).tolist() == [[True, False, False, True], [True] * 4, [True] * 4]
    assert (logits > 0).int().tolist()[1:] == [[1, 1, 0, 0], [1, 1, 0, 0]]
    slope = gradient(operator, rows.float(), 2, 1.0, torch.ones(3, 4))
    assert not slope[1:].any()
    assert not slope[rows.isinf()].any()


@pytest.mark.parametrize("operator", [*MASKS, *SMOOTH])
def test_decided_rows_with_nan_have_no_gradient(operator: TopK) -> None:
    scores = (
        torch.tensor([[np.nan, 1, np.inf], [2, 1.5, 0], [0, np.nan, 3]]).float().requires_grad_()
    )
    k, mask = torch.tensor([0, 1, 2]), torch.tensor([[True] * 3, [True] * 3, [True, False, True]])
    for values in (operator(scores, k, 1.0, mask), operator(scores, torch.tensor([3, 1, 3]))):
        (slope,) = torch.autograd.grad(values, scores, torch.tensor([1.0, -2, 3]).expand(3, 3))
        assert not slope[::2].any()
        assert slope[1].any()


@every_mask
@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("tau", [0.3, 50.0])
def test_first_and_second_derivatives(operator: TopK, n: int, tau: float) -> None:
    forms = [operator] + [logits for logits, mask in LOGITS.items() if mask is operator]
    scores, mask = scores_of(3, n).requires_grad_(), scores_of(3, n, seed=1) > -1
    for form in forms:
        for k, valid in ((1, None), (n - 1, None), (torch.tensor([1, n // 2, n]), mask)):
            assert gradcheck(lambda s, f=form, k=k, v=valid: f(s, k, tau, v), (scores,))
            assert gradgradcheck(lambda s, f=form, k=k, v=valid: f(s, k, tau, v), (scores,))


@every_mask
@settings(max_examples=100)
@given(
    st.lists(st.integers(-40, 40).map(lambda v: v / 8), min_size=2, max_size=12),
    st.integers(1, 11),
    st.floats(0.01, 100),
)
def test_memberships_rise_with_scores_and_sum_to_k(
    operator: TopK, row: list[float], k: int, tau: float
) -> None:
    scores = torch.tensor(row, dtype=torch.float64)
    k = min(k, len(row) - 1)
    soft = operator(scores, k, tau)
    assert float(soft.sum()) == pytest.approx(k, abs=1e-12)
    order = scores.argsort(stable=True)
    assert (soft[order].diff() >= -1e-15).all()
    torch.testing.assert_close(operator(-scores, len(row) - k, tau), 1 - soft, rtol=0, atol=1e-12)


@every_mask
def test_soft_tends_to_hard_where_scores_differ(operator: TopK) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.stack([torch.randperm(1000, generator=generator) for _ in range(5)]) / 100
    for k in (1, 500, 999):
        assert torch.equal(operator(scores, k, 1e-6), hard_topk(scores, k))
        assert not torch.equal(operator(scores, k, 0.1), hard_topk(scores, k))
