"""The kernel run by Triton's interpreter on the CPU, where TRITON_INTERPRET=1 is set early enough.

`test_triton.py` runs this file in a process of its own: Triton must be imported after that.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from operators.kernels.triton_cross_entropy import dftopk_cross_entropy
from tests.operators.kernels.triton_reference import weighted_loss

INF = float("inf")

# The interpreter computes with numpy, which warns where a device quietly gives inf or NaN.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def check(
    scores: Tensor,
    labels: Tensor,
    k: int | Tensor,
    tau: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compare with the reference, entry by entry, at the precision of the arithmetic."""
    loss, found, factor = dftopk_cross_entropy(scores, labels, k, tau, mask, weights, True)
    rows = len(scores)
    expected = weighted_loss(
        scores.double().numpy(),
        labels.numpy(),
        k.tolist() if isinstance(k, Tensor) else [k] * rows,
        tau,
        np.ones(scores.shape, bool) if mask is None else mask.numpy(),
        np.ones(rows) if weights is None else weights.double().numpy(),
    )
    assert found is not None
    assert loss.dtype == factor.dtype == torch.float32
    assert found.dtype == (torch.float32 if scores.dtype == torch.float16 else scores.dtype)
    grad = found.double() * factor
    assert float(loss) == pytest.approx(expected.loss, rel=1e-6, abs=1e-30, nan_ok=True)
    step = max(torch.finfo(found.dtype).eps, 1e-6)
    tiny = torch.finfo(found.dtype).smallest_normal * max(float(factor), 1.0)  # flushed below it
    np.testing.assert_array_equal(grad.isnan().numpy(), np.isnan(expected.gradient))
    error = np.nan_to_num(np.abs(grad.numpy() - expected.gradient))
    assert (error <= step * expected.scale + tiny).all()
    return loss, grad


def draw(rows: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, n, generator=generator)
    return scores, torch.rand(rows, n, generator=generator) < 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n", [2, 3, 5, 8, 33, 40, 160, 257, 1000, 1024, 5000])
def test_random_rows(n: int, dtype: torch.dtype) -> None:
    scores, labels = draw(2, n)
    for k in {1, (n + 3) // 4, n - 1} if n < 200 else {n // 4}:
        check(scores.to(dtype), labels, k, 0.5)


def test_loss_alone_is_the_same() -> None:
    scores, labels = draw(9, 30)
    loss, _ = check(scores, labels, 7)
    alone, nothing, _ = dftopk_cross_entropy(scores, labels, 7, 1.0, None, None, False)
    assert nothing is None
    assert torch.equal(alone, loss)


def test_more_rows_than_one_program_holds() -> None:
    scores, labels = draw(70, 7)
    check(scores, labels, 3)


@pytest.mark.parametrize("order", ["ascending", "descending", "constant", "two values", "integers"])
@pytest.mark.parametrize("n", [6, 40])
def test_sorted_and_tied_rows(order: str, n: int) -> None:
    scores, labels = draw(5, n)
    scores = {
        "ascending": scores.sort(-1).values,
        "descending": scores.sort(-1, descending=True).values,
        "constant": torch.full((5, n), -0.7),
        "two values": (scores > 0.5).float() - 0.25,
        "integers": (2 * scores).round(),
    }[order]
    for k in (1, n // 3, n // 2, n - 1):
        check(scores, labels, k, 0.8)


@pytest.mark.parametrize(
    "values",
    [
        [2.0**-i for i in range(60)],
        [-(2.0**i) for i in range(60)],
        [1.0 + i * 2.0**-23 for i in range(60)],
        [1e-45 * (i - 30) for i in range(60)],
        [*range(59), 1e38],
        [*range(-58, 1), -1e38],
        [(-1) ** i * 10.0 ** (i - 30) for i in range(60)],
        [0.0, -0.0] * 30,
        [1.0, *[0.0, -0.0] * 29, -1.0],
        [1e4 + i / 8 for i in range(60)],
        [(-1) ** i * 1e4 for i in range(60)],
    ],
    ids=[
        "powers", "negative powers", "neighbours", "denormal", "outlier", "low outlier",
        "magnitudes", "zeros", "zeros inside", "offset", "far apart",
    ],
)  # fmt: skip
def test_adversarial_rows(values: list[float]) -> None:
    scores = torch.tensor(values).repeat(59, 1)
    labels = draw(59, 60)[1]
    check(scores, labels, torch.arange(1, 60), 2.0)


def test_loss_of_confident_rows_is_relative_to_itself() -> None:
    scores = torch.tensor([[60.0, 50.0, -45.0, -55.0]])
    loss, _ = check(scores, scores > 0, 2)
    assert 0 < float(loss) < 1e-19


def test_masks_ks_and_weights() -> None:
    generator = torch.Generator().manual_seed(1)
    scores, labels = draw(40, 50)
    mask = torch.rand(40, 50, generator=generator) < 0.7
    mask[3] = False
    scores = scores.where(mask, torch.nan)  # what is masked has no influence, even as NaN
    ks = torch.randint(-1, 52, (40,), generator=generator)
    weights = torch.rand(40, generator=generator)
    weights[:5] = 0
    for k in (10, ks, ks.int()):
        for valid in (mask, None):
            for weight in (weights, None):
                check(
                    scores if valid is not None else draw(40, 50)[0], labels, k, 1.0, valid, weight
                )


def test_nothing_counts() -> None:
    scores, labels = draw(4, 9)
    none = torch.zeros(4, 9, dtype=torch.bool)
    for k, mask, weights in (
        (0, None, None),
        (9, None, None),
        (torch.tensor([0, -3, 9, 2**40]), None, None),
        (3, none, None),
        (3, None, torch.zeros(4)),
    ):
        if weights is None:
            scores[0] = torch.nan  # a decided row
        loss, grad, scale = dftopk_cross_entropy(scores, labels, k, 1.0, mask, weights, True)
        scores[0] = 0.0
        assert float(loss) == float(scale) == 0
        assert grad is not None
        assert torch.equal(grad, torch.zeros(4, 9))


def test_no_rows_and_no_columns() -> None:
    for shape in ((0, 5), (3, 0)):
        scores = torch.zeros(shape)
        loss, grad, scale = dftopk_cross_entropy(scores, scores > 0, 2, 1.0, None, None, True)
        assert float(loss) == float(scale) == 0
        assert grad is not None
        assert grad.shape == shape


def test_nan_poisons_its_undecided_row_and_no_other() -> None:
    scores, labels = draw(6, 12)
    scores[1, 4] = torch.nan
    scores[3, 2] = -torch.tensor(torch.nan)
    scores[4] = torch.nan
    scores[5] = INF  # which leaves no place
    scores[5, 0] = torch.nan
    k = torch.tensor([3, 3, 3, 12, 2, 4])
    loss, grad = check(scores, labels, k)
    assert loss.isnan()
    assert grad.isnan().any(-1).tolist() == [False, True, False, False, True, True]
    mask = torch.ones(6, 12, dtype=torch.bool)
    mask[:, 7:] = False
    grad = check(scores, labels, k, mask=mask)[1]
    assert grad.isnan().sum(-1).tolist() == [0, 7, 0, 0, 7, 7]
    loss, grad = check(scores, labels, k, weights=torch.tensor([1.0, 0, 2, 1, 0, 0]))
    assert loss.isnan()
    assert grad.isnan().sum(-1).tolist() == [0, 12, 0, 0, 12, 12]


def test_loss_is_exact_to_the_last_bits() -> None:
    for distance in (0.0, 0.25, 1.0, 4.0):
        scores = torch.tensor([[distance, -distance]])
        loss, _ = check(scores, scores > INF, 1)
        assert float(loss) == pytest.approx(
            (math.log1p(math.exp(distance)) + math.log1p(math.exp(-distance))) / 2, rel=2e-7
        )


@pytest.mark.parametrize("masked", [False, True])
def test_infinite_scores_are_left_out_with_those_they_decide(masked: bool) -> None:
    scores, labels = draw(13, 12)
    scores[:12, :3] = INF
    scores[:12, 3:7] = -INF
    mask = torch.arange(12) != 0 if masked else torch.ones(12, dtype=torch.bool)
    k = torch.arange(13).index_fill(0, torch.tensor(12), 5)
    first = 3 if masked else 4  # below it, all places are taken by those at +inf
    weights = torch.arange(1.0, 14.0)
    valid = mask.expand(13, 12) if masked else None
    loss, grad = check(scores, labels, k, 1.0, valid, weights)
    assert loss.isfinite()
    counted = (k >= first) & (k < first + 4)
    counted[12] = True  # a row without them, in the same program
    assert grad.any(-1).tolist() == counted.tolist()
    assert not grad[:12, :7].any()
    total = dftopk_cross_entropy(scores, labels, k, 1.0, valid, weights, False)[2].reciprocal()
    entries = 5.0 * sum(range(first + 1, first + 5)) + 13 * (11 if masked else 12)
    assert float(total) == pytest.approx(entries, rel=1e-6)


def test_rows_of_few_values_in_every_constellation() -> None:
    generator = torch.Generator().manual_seed(2)
    one = 1 + 2.0**-23
    values = torch.tensor([-INF, -1e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, one, 2.0, 1e38, INF])
    for spread in (3, 6, 12):
        start = torch.randint(0, 13 - spread, (200, 1), generator=generator)
        scores = values[start + torch.randint(0, spread, (200, 9), generator=generator)]
        labels = torch.rand(200, 9, generator=generator) < 0.5
        mask = torch.rand(200, 9, generator=generator) < 0.8
        ks = torch.randint(0, 10, (200,), generator=generator)
        check(scores, labels, ks, 1.0, mask)


def test_inputs_that_are_not_contiguous() -> None:
    scores, labels = draw(10, 30)
    loss, grad = check(scores.T, labels.T, 4, 1.0, (scores.T < 1), torch.rand(60)[::2])
    assert grad.shape == (30, 10)
    assert loss > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tau", [1e-30, 1e-3, 50.0, 1e30])
def test_temperatures_far_from_1(tau: float, dtype: torch.dtype) -> None:
    scores = (8 * draw(6, 40)[0]).round() / 8  # exact differences, so that rounding stays small
    check(scores.to(dtype), draw(6, 40)[1], 10, tau)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_far_from_1(dtype: torch.dtype) -> None:
    scores, labels = draw(6, 40)
    for size in (1e-9, 1e9):
        weights = size * torch.arange(6.0)
        loss, _ = check(scores.to(dtype), labels, 10, 0.01, weights=weights)
        assert loss.isfinite()


def test_logits_beyond_the_largest_number_are_cut() -> None:
    scores = torch.tensor([[3e38, 3e37, 1e37, -3e38]])
    for labels, wrong in (([0, 0, 0, 1], 3), ([1, 1, 1, 0], 1)):
        loss, grad, scale = dftopk_cross_entropy(
            scores, torch.tensor([labels]) > 0, 2, 1e-3, None, None, True
        )
        assert float(loss) == pytest.approx(wrong * 1e30 / 4, rel=1e-6)
        assert grad is not None
        assert (grad * scale).isfinite().all()
