"""What every operator says where scores decide nothing, are invalid, infinite, NaN or large."""

import numpy as np
import pytest
import torch
from torch import Tensor

from operators import CERTAIN, hard_topk
from tests.operators.forms import Form, every_form, every_mask, every_soft_form, scores_of

NAN = float("nan")
INF = float("inf")


def assert_values(values: Tensor, expected: list[float]) -> None:
    np.testing.assert_allclose(values.detach(), expected, rtol=1e-6)


@every_form
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("k", "row"), [(k, n) for n in (1, 3) for k in (-5, -1, 0, n, n + 1, 99)])
def test_decided_rows_are_certain_and_have_no_gradient(
    form: Form, dtype: torch.dtype, k: int, row: int
) -> None:
    scores = torch.tensor([NAN, 1.0, INF][:row], dtype=dtype, requires_grad=form.soft)
    for places in (k, torch.tensor(k)):
        values = form.call(scores, places)
        assert_values(
            values, [round_to(form.certain_in if k > 0 else form.certain_out, dtype)] * row
        )
        if form.soft:
            (gradient,) = torch.autograd.grad(values.sum(), scores)
            assert gradient.tolist() == [0.0] * row


def round_to(value: float, dtype: torch.dtype) -> float:
    return torch.tensor(value, dtype=dtype).item()


@every_form
def test_k_is_compared_with_the_valid_entries(form: Form) -> None:
    yes, no = form.certain_in, form.certain_out
    scores = scores_of(4, 3).requires_grad_(form.soft)
    mask = torch.tensor([[True, True, False], [True, False, False], [False] * 3, [True] * 3])
    values = form.call(scores, torch.tensor([2, 1, 1, 0]), mask=mask)
    expected = torch.tensor([[yes, yes, no], [yes, no, no], [no] * 3, [no] * 3])
    torch.testing.assert_close(values.detach(), expected.double())
    if form.soft:
        assert not torch.autograd.grad(values.sum(), scores)[0].any()


@every_form
@pytest.mark.parametrize("filler", [0.0, 1e30, -INF, INF, NAN])
def test_invalid_entries_have_no_influence(form: Form, filler: float) -> None:
    few = scores_of(4, 5).float()
    mask = torch.tensor([True, False, True, True, False, True, True, False]).expand(4, 8)
    many = torch.full((4, 8), filler).masked_scatter(mask, few).requires_grad_(form.soft)
    values, alone = form.call(many, 2, 0.5, mask), form.call(few.requires_grad_(form.soft), 2, 0.5)
    torch.testing.assert_close(values[mask].reshape(4, 5), alone, rtol=1e-5, atol=1e-6)
    assert_values(values[~mask], [form.certain_out] * 12)
    if form.soft:
        upstream = scores_of(4, 8, seed=2).float()
        (gradient,) = torch.autograd.grad((values * upstream).sum(), many)
        (exact,) = torch.autograd.grad((alone * upstream[mask].reshape(4, 5)).sum(), few)
        assert not gradient[~mask].any()
        torch.testing.assert_close(gradient[mask].reshape(4, 5), exact, rtol=1e-4, atol=1e-5)


@every_form
@pytest.mark.parametrize("k", [1, 2, 3, torch.tensor([1, 1, 4])])
def test_nan_stays_in_its_row(form: Form, k: int | Tensor) -> None:
    rows = [[1.0, NAN, 3.0, 0.0], [1.0, 2.0, 3.0, 0.0], [-INF, INF, NAN, 1.0]]
    scores = torch.tensor(rows, dtype=torch.float64).requires_grad_(form.soft)
    values = form.call(scores, k)
    decided = not isinstance(k, int)
    assert values.isnan().any(1).tolist() == [True, False, not decided]
    assert values.isnan().all(1).tolist() == [True, False, not decided]
    if form.soft:
        (gradient,) = torch.autograd.grad((values * scores_of(3, 4)).sum(), scores)
        alone = scores.detach()[1].requires_grad_()
        single = form.call(alone, k if isinstance(k, int) else 1) * scores_of(3, 4)[1]
        (exact,) = torch.autograd.grad(single.sum(), alone)
        torch.testing.assert_close(gradient[1], exact, rtol=1e-10, atol=1e-12)


@every_mask
@pytest.mark.parametrize(
    ("row", "k", "expected"),
    [
        ([INF, 1.0, 0.0], 1, [1, 0, 0]),
        ([INF, 1.0, 0.0], 2, [1, None, None]),
        ([1.0, 0.0, -INF], 2, [1, 1, 0]),
        ([1.0, -INF, -INF], 2, [1, 0, 0]),
        ([1.0, 0.0, -INF], 1, [None, None, 0]),
        ([-INF, -INF, -INF], 1, [0, 0, 0]),
        ([INF, 2.0, 1.0, 0.0, -INF], 2, [1, None, None, None, 0]),
        ([INF, 5.0, -INF, -INF], 3, [1, 1, 0, 0]),
    ],
)
def test_infinities_are_certain_and_the_rest_compete_for_the_rest(
    form: Form, row: list[float], k: int, expected: list[float | None]
) -> None:
    for dtype in (torch.float32, torch.float64):
        scores = torch.tensor(row, dtype=dtype).requires_grad_(form.soft)
        for places in (k, torch.tensor(k)):
            values = form.call(scores, places)
            open_ = torch.tensor([certain is None for certain in expected])
            assert_values(values[~open_], [c for c in expected if c is not None])
            finite = scores.isfinite()
            left = k - row.count(INF)
            alone = form.call(scores[finite].detach(), left)
            torch.testing.assert_close(values[finite].detach(), alone, rtol=1e-5, atol=1e-6)
            if form.soft:
                upstream = scores_of(len(row)).to(dtype)
                (gradient,) = torch.autograd.grad((values * upstream).sum(), scores)
                assert gradient.isfinite().all()
                assert gradient[~open_].tolist() == [0.0] * int((~open_).sum())


@every_mask
def test_more_entries_at_plus_infinity_than_places(form: Form) -> None:
    row = torch.tensor([INF, 0.0, INF, INF, -INF])
    expected = [1.0, 0.0, 1.0, 0.0, 0.0] if form.call is hard_topk else [1.0, 0.0, 1.0, 1.0, 0.0]
    assert form.call(row, 2).tolist() == expected


@every_soft_form
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_infinite_scores_leave_the_losses_finite(form: Form, k: int) -> None:
    rows = [[INF, 1.0, 0.5, 0.0, -INF], [-INF, 1.0, -INF, 0.5, 0.0], [INF, INF, INF, 0.0, 1.0]]
    scores = torch.tensor(rows, requires_grad=True)
    values = form.call(scores, k)
    assert not values.isnan().any()
    (gradient,) = torch.autograd.grad((form.mask(values) ** 2).sum(), scores)
    assert gradient.isfinite().all()
    assert not gradient[scores.isinf()].any()


@every_soft_form
@pytest.mark.parametrize("scale", [1e4, 1e8])
def test_large_scores_are_no_trouble(form: Form, scale: float) -> None:
    scores = (scale * scores_of(4, 9).float()).requires_grad_()
    values = form.call(scores, 3)
    assert values.isfinite().all()
    torch.testing.assert_close(form.mask(values.detach()), hard_topk(scores, 3), atol=2e-3, rtol=0)
    (gradient,) = torch.autograd.grad(values.sum(), scores)
    assert gradient.isfinite().all()


def test_certain_is_what_every_type_can_hold() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert torch.tensor([CERTAIN, -CERTAIN], dtype=dtype).sigmoid().tolist() == [1.0, 0.0]
