"""DFTopK as mathematics: values, gradients, ties, edges, types."""

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

from operators import CERTAIN, dftopk, dftopk_logits, hard_topk
from tests.operators import oracle

NAN = float("nan")
INF = float("inf")


def scores_of(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient_of(scores: Tensor, upstream: Tensor, k: int | Tensor, tau: float = 1.0) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((dftopk(leaf, k, tau) * upstream).sum(), leaf)
    return gradient


def test_values_by_hand() -> None:
    mask = dftopk(torch.tensor([5.0, 1.0, 3.0], dtype=torch.float64), k=1, tau=2.0)
    threshold = (5 + 3) / 2
    expected = [1 / (1 + np.exp(-(x - threshold) / 2)) for x in (5, 1, 3)]
    np.testing.assert_allclose(mask, expected, rtol=1e-15)


@pytest.mark.parametrize("n", [2, 3, 8, 65])
@pytest.mark.parametrize("tau", [0.1, 1.0, 30.0])
def test_values_equal_the_oracle_at_every_k(n: int, tau: float) -> None:
    scores = scores_of(4, n)
    for k in range(-1, n + 2):
        expected = [oracle.soft_mask(row.numpy(), k, tau) for row in scores]
        np.testing.assert_allclose(dftopk(scores, k, tau), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(5,), (3, 6), (2, 2, 4)])
@pytest.mark.parametrize("k", [0, 1, 3, 6])
@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_first_and_second_gradients(shape: tuple[int, ...], k: int, tau: float) -> None:
    scores = scores_of(*shape).requires_grad_()
    for operator in (dftopk, dftopk_logits):
        assert gradcheck(lambda s, o=operator: o(s, k, tau), (scores,))
        assert gradgradcheck(lambda s, o=operator: o(s, k, tau), (scores,))


def test_gradients_with_mask_and_k_per_row() -> None:
    scores = scores_of(4, 6).requires_grad_()
    mask = torch.arange(6) < torch.tensor([[6], [4], [2], [0]])
    k = torch.tensor([2, 3, 2, 1])
    assert gradcheck(lambda s: dftopk(s, k, 0.7, mask), (scores,))
    assert gradgradcheck(lambda s: dftopk(s, k, 0.7, mask), (scores,))


def test_tied_boundary_shares_its_gradient_equally() -> None:
    row = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    upstream = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    # Both boundaries are 1, so p = 1/2 there, and the whole threshold is shared by three entries.
    slope = 1 / 4
    expected = [0, slope - slope / 3, -slope / 3, -slope / 3, 0]
    np.testing.assert_allclose(gradient_of(row, upstream, k=2), expected, atol=1e-16)


@pytest.mark.parametrize(
    "row", [[3.0, 1, 1, 1, 0], [2.0, 2, 1, 1, 0], [1.0, 1, 1, 1, 1], [4.0, 2, 3, 2, 0]]
)
def test_values_and_gradients_are_permutation_equivariant(row: list[float]) -> None:
    scores, upstream = torch.tensor(row, dtype=torch.float64), scores_of(5, seed=1)
    for seed in range(10):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(dftopk(scores[order], 2), dftopk(scores, 2)[order])
        torch.testing.assert_close(
            gradient_of(scores[order], upstream[order], 2),
            gradient_of(scores, upstream, 2)[order],
            rtol=0,
            atol=1e-15,
        )


@pytest.mark.parametrize("k", [-1, 0, 3, 4])
def test_decided_rows_are_exact_and_have_no_gradient(k: int) -> None:
    scores = torch.tensor([1.0, INF, NAN]).requires_grad_()
    certain = 1.0 if k > 0 else 0.0
    mask, logits = dftopk(scores, k), dftopk_logits(scores, k)
    assert mask.tolist() == [certain] * 3
    assert logits.tolist() == [CERTAIN if k > 0 else -CERTAIN] * 3
    (mask + logits).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0.0] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_certain_saturates_the_sigmoid_of_every_type(dtype: torch.dtype) -> None:
    assert torch.tensor([CERTAIN, -CERTAIN], dtype=dtype).sigmoid().tolist() == [1.0, 0.0]


def test_masked_entries_have_no_influence() -> None:
    scores = torch.tensor([[2.0, NAN, 1.0, INF, 0.0]]).requires_grad_()
    mask = torch.tensor([[True, False, True, False, True]])
    soft = dftopk(scores, 1, mask=mask)
    assert torch.equal(soft[mask], dftopk(torch.tensor([2.0, 1.0, 0.0]), 1))
    assert soft[~mask].tolist() == [0.0, 0.0]
    assert dftopk_logits(scores, 1, mask=mask)[~mask].tolist() == [-CERTAIN, -CERTAIN]
    (soft**2).sum().backward()
    assert scores.grad is not None
    assert scores.grad[~mask].tolist() == [0.0, 0.0]
    assert scores.grad.isfinite().all()


def test_infinities_leave_no_trace_in_the_gradient_of_the_logits() -> None:
    scores = torch.tensor([1.0, -INF, -INF, 5.0]).requires_grad_()
    mask = torch.tensor([True, True, True, False])
    (gradient,) = torch.autograd.grad(dftopk_logits(scores, 1, mask=mask)[0], scores)
    # The threshold is half the score of the first entry, and half a number that cannot move.
    assert gradient.tolist() == [0.5, 0.0, 0.0, 0.0]


def test_k_is_compared_with_the_valid_count() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    soft = dftopk(torch.zeros(3, 3), 1, mask=mask)
    assert soft.tolist() == [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    logits = dftopk_logits(torch.zeros(3, 3), 1, mask=mask)
    assert logits[1:].tolist() == [[CERTAIN, -CERTAIN, -CERTAIN], [-CERTAIN] * 3]


def test_k_per_row_equals_row_by_row() -> None:
    scores = scores_of(2, 5, 7)
    k = torch.tensor([[-1, 0, 1, 3, 6], [7, 8, 2, 2, 5]])
    expected = torch.stack(
        [torch.stack([dftopk(scores[i, j], int(k[i, j])) for j in range(5)]) for i in range(2)]
    )
    assert torch.equal(dftopk(scores, k), expected)
    assert torch.equal(dftopk(scores, k[:, :1]), dftopk(scores, k[:, :1].expand(2, 5)))
    assert torch.equal(dftopk(scores, torch.tensor(3)), dftopk(scores, 3))


def test_nan_stays_in_its_row() -> None:
    scores = torch.tensor([[1.0, NAN, 3.0, 0.0], [1.0, 2.0, 3.0, 0.0]]).requires_grad_()
    for k, k_alone in ((1, 1), (2, 2), (3, 3), (torch.tensor([1, 1]), 1)):
        soft = dftopk(scores, k)
        assert soft[0].isnan().all()
        assert soft[1].isfinite().all()
        (gradient,) = torch.autograd.grad((soft**2).sum(), scores)
        alone = scores.detach()[1].requires_grad_()
        (expected,) = torch.autograd.grad((dftopk(alone, k_alone) ** 2).sum(), alone)
        assert torch.equal(gradient[1], expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([INF, 1.0, 0.0], [1.0, 0.0, 0.0]),
        ([1.0, 0.0, -INF], [1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(0.5)), 0.0]),
        ([INF, INF, 0.0], [1.0, 1.0, 0.0]),
        ([-INF, -INF, -INF], [0.0, 0.0, 0.0]),
        ([3e38, -INF, 0.0], [1.0, 0.0, 0.0]),
    ],
)
def test_infinities_are_certain_and_have_no_gradient(
    row: list[float], expected: list[float]
) -> None:
    for dtype in (torch.float32, torch.float64):
        scores = torch.tensor(row, dtype=dtype).requires_grad_()
        soft = dftopk(scores, 1)
        np.testing.assert_allclose(soft.detach(), expected, rtol=1e-6)
        soft.square().sum().backward()
        assert scores.grad is not None
        assert scores.grad.isfinite().all()
        assert scores.grad[scores.isinf()].tolist() == [0.0] * int(scores.isinf().sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    scores = scores_of(3, 50).to(dtype).requires_grad_()
    wide = scores.detach().float().requires_grad_()
    soft = dftopk(scores, 10, 0.3)
    assert soft.dtype == dtype
    assert torch.equal(soft, dftopk(wide, 10, 0.3).to(dtype))
    soft.float().square().sum().backward()
    dftopk(wide, 10, 0.3).square().sum().backward()
    assert scores.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(scores.grad, wide.grad.to(dtype), rtol=0.02, atol=0.005)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (2, 0, 3)])
@pytest.mark.parametrize("k_per_row", [False, True])
def test_empty_input_gives_empty_output(shape: tuple[int, ...], k_per_row: bool) -> None:
    scores = torch.empty(shape, requires_grad=True)
    k = torch.ones(shape[:-1], dtype=torch.int64) if k_per_row else 1
    soft = dftopk(scores, k, mask=torch.ones(shape, dtype=torch.bool))
    assert soft.shape == shape
    soft.sum().backward()
    assert scores.grad is not None
    assert scores.grad.shape == shape


def test_layout_does_not_matter() -> None:
    scores = scores_of(6, 4, 5)
    strided = scores.transpose(0, 2)[::2]
    assert not strided.is_contiguous()
    assert torch.equal(dftopk(strided, 2), dftopk(strided.contiguous(), 2))


def test_the_caller_s_scores_are_left_alone() -> None:
    scores = scores_of(3, 5)
    before = scores.clone()
    dftopk(scores.requires_grad_(), 2, mask=torch.rand(3, 5) > 0.5).sum().backward()
    assert torch.equal(scores, before)


def test_vmap_equals_the_batch() -> None:
    scores = scores_of(4, 6)
    assert torch.equal(torch.func.vmap(lambda row: dftopk(row, 2))(scores), dftopk(scores, 2))
    per_row = torch.func.vmap(torch.func.grad(lambda row: dftopk(row, 2).square().sum()))(scores)
    leaf = scores.clone().requires_grad_()
    dftopk(leaf, 2).square().sum().backward()
    torch.testing.assert_close(per_row, leaf.grad)


rows = arrays(np.float64, st.integers(2, 12), elements=st.integers(-40, 40).map(lambda v: v / 8))


@settings(max_examples=150)
@given(rows, st.integers(1, 11), st.floats(0.05, 20), st.integers(0, 2**16))
def test_laws(row: NDArray[np.float64], k: int, tau: float, seed: int) -> None:
    scores = torch.from_numpy(row)
    k = min(k, len(row) - 1)
    soft = dftopk(scores, k, tau)
    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)
    close(dftopk(scores + 0.25, k, tau), soft)  # shift
    close(dftopk(4 * scores, k, 4 * tau), soft)  # scale
    assert torch.equal(soft.argsort(stable=True), scores.argsort(stable=True))  # monotone
    assert int((soft > 0.5).sum()) <= k <= int((soft >= 0.5).sum())
    upstream = scores_of(len(row), seed=seed)
    gradient = gradient_of(scores, upstream, k, tau)
    np.testing.assert_allclose(gradient, oracle.gradient(row, k, tau, upstream.numpy()), atol=1e-9)
    assert abs(float(gradient.sum())) < 1e-9  # a common shift changes nothing


def test_soft_tends_to_hard_as_tau_falls() -> None:
    scores = scores_of(8, 30)
    hard = hard_topk(scores, 7)
    taus = (1, 0.1, 1e-2, 1e-3, 1e-5)
    errors = [float((dftopk(scores, 7, tau) - hard).abs().max()) for tau in taus]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": torch.tensor(1.0)}, r"scores has no dimension .* pass scores.reshape\(1\)"),
        ({"scores": torch.ones(2, 3, dtype=torch.int64)}, r"torch.int64 must be floating point"),
        ({"tau": 0.0}, r"tau == 0.0 must be finite and above 0; use hard_topk"),
        ({"tau": -1.0}, r"tau == -1.0 must be finite"),
        ({"tau": NAN}, r"tau == nan must be finite"),
        ({"tau": INF}, r"tau == inf must be finite"),
        ({"k": 1.5}, r"k == 1.5 must be an int or an integer tensor"),
        ({"k": True}, r"k == True must be an int"),
        ({"k": torch.tensor([1.0, 2.0])}, r"k of torch.float32 must be of an integer type"),
        ({"k": torch.tensor([True, True])}, r"k of torch.bool must be of an integer type"),
        ({"k": torch.tensor([1, 2, 3])}, r"k of shape \[3\] must broadcast to the \[2\] rows"),
        ({"k": torch.tensor([[1], [2]])}, r"k of shape \[2, 1\] must broadcast"),
        ({"mask": torch.ones(2, 3)}, r"mask of torch.float32 must be torch.bool"),
        (
            {"mask": torch.ones(3, dtype=torch.bool)},
            r"mask of shape \[3\] .* \[2, 3\]; pass mask.ex",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    given_arguments: dict[str, object] = {"scores": torch.ones(2, 3), "k": 1, **arguments}
    for operator in (dftopk, dftopk_logits):
        with pytest.raises(ValueError, match=message):
            operator(**given_arguments)  # type: ignore[arg-type]
