"""Laws that every operator keeps: shift, scale, order, sums, the hard limit, and derivatives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from operators import hard_topk
from tests.operators.forms import (
    AT_MOST_K,
    ORDER_MATTERS,
    SUM_TO_K,
    Form,
    every_form,
    every_mask,
    every_soft_form,
    gradient_of,
    scores_of,
)

# Eighths are exact in binary, and few enough for ties.
values = st.integers(-24, 24).map(lambda v: v / 8)
rows = st.lists(values, min_size=2, max_size=10).map(lambda r: torch.tensor(r, dtype=torch.float64))
taus = st.sampled_from([0.25, 1.0, 4.0])


def places(row: Tensor, k: int) -> int:
    return min(k, len(row) - 1)


@every_form
@settings(max_examples=25)
@given(row=rows, k=st.integers(1, 9), tau=taus, shift=values, seed=st.integers(0, 99))
def test_a_common_shift_changes_nothing(
    form: Form, row: Tensor, k: int, tau: float, shift: float, seed: int
) -> None:
    k = places(row, k)
    expected = form.call(row, k, tau)
    torch.testing.assert_close(form.call(row + shift, k, tau), expected, rtol=1e-9, atol=1e-11)
    if form.soft:
        upstream = scores_of(len(row), seed=seed)
        gradient = gradient_of(form, row, k, tau, upstream)
        assert abs(float(gradient.sum())) < 1e-9 * (1 + float(gradient.abs().sum()))


@every_form
@settings(max_examples=25)
@given(row=rows, k=st.integers(1, 9), tau=taus, scale=st.sampled_from([0.5, 2.0, 8.0]))
def test_tau_is_in_the_unit_of_the_scores(
    form: Form, row: Tensor, k: int, tau: float, scale: float
) -> None:
    k = places(row, k)
    expected = form.call(row, k, tau)
    torch.testing.assert_close(
        form.call(scale * row, k, scale * tau), expected, rtol=1e-9, atol=1e-11
    )
    if form.soft:
        upstream = scores_of(len(row))
        gradient = gradient_of(form, scale * row, k, scale * tau, upstream) * scale
        exact = gradient_of(form, row, k, tau, upstream)
        torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-11)


@every_form
@settings(max_examples=40)
@given(row=rows, k=st.integers(1, 9), tau=taus, seed=st.integers(0, 99))
def test_order_of_the_candidates_does_not_matter(
    form: Form, row: Tensor, k: int, tau: float, seed: int
) -> None:
    if form.name in ORDER_MATTERS:
        return
    k = places(row, k)
    order = torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))
    soft, upstream = form.call(row, k, tau), scores_of(len(row), seed=seed)
    torch.testing.assert_close(form.call(row[order], k, tau), soft[order], rtol=1e-9, atol=1e-10)
    gradient = gradient_of(form, row, k, tau, upstream)
    turned = gradient_of(form, row[order], k, tau, upstream[order])
    torch.testing.assert_close(turned, gradient[order], rtol=1e-8, atol=1e-9)
    for value in row.unique():
        tied = row == value
        assert float(soft[tied].max() - soft[tied].min()) < 1e-10


@every_mask
@settings(max_examples=40)
@given(row=rows, k=st.integers(1, 9), tau=taus)
def test_sums_and_bounds(form: Form, row: Tensor, k: int, tau: float) -> None:
    k = places(row, k)
    soft = form.call(row, k, tau)
    assert float(soft.min()) >= 0
    assert float(soft.max()) <= 1 + 1e-12
    total = float(soft.sum())
    if form.name in SUM_TO_K:
        assert total == pytest.approx(k, abs=1e-9)
    elif form.name in AT_MOST_K:
        assert 0 < total <= k + 1e-9
    else:  # the threshold lies between the two boundaries
        assert int((soft > 0.5).sum()) <= k <= int((soft >= 0.5).sum())


@every_soft_form
@pytest.mark.parametrize("k", [1, 7, 29])
def test_soft_tends_to_hard_as_tau_falls(form: Form, k: int) -> None:
    scores = 0.1 * torch.stack([torch.randperm(30) for _ in range(8)]).double()
    hard = hard_topk(scores, k)
    errors = [
        float((form.mask(form.call(scores, k, tau)) - hard).abs().max())
        for tau in (1.0, 0.1, 1e-3, 1e-5)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-3


@every_soft_form
@pytest.mark.parametrize("tau", [0.3, 2.0])
def test_first_and_second_derivatives(form: Form, tau: float) -> None:
    # Rows of one N with k at its edges and between, with and without invalid entries.
    scores = scores_of(5, 4).requires_grad_()
    k = torch.tensor([1, 2, 3, 0, 2])
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[2, 0] = mask[4, 1] = False
    for places, valid in ((2, None), (k, mask)):

        def call(s: Tensor, k: int | Tensor = places, v: Tensor | None = valid) -> Tensor:
            return form.call(s, k, tau, v)

        assert gradcheck(call, (scores,))
        assert gradgradcheck(call, (scores,))


@every_soft_form
def test_the_gradient_is_no_constant_of_the_scores(form: Form) -> None:
    upstream = scores_of(2, 6, seed=3)
    gradients = [gradient_of(form, scores_of(2, 6, seed=s), 2, 1.0, upstream) for s in (1, 2)]
    assert all(gradient.abs().amax(1).min() > 1e-4 for gradient in gradients)
    assert not torch.allclose(gradients[0], gradients[1])
