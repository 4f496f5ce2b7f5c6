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
    loss, grad = dftopk_cross_entropy(scores, labels, k, tau, mask, weights, True)
    rows = len(scores)
    expected = weighted_loss(
        scores.double().numpy(),
        labels.numpy(),
        k.tolist() if isinstance(k, Tensor) else [k] * rows,
        tau,
        np.ones(scores.shape, bool) if mask is None else mask.numpy(),
        np.ones(rows) if weights is None else weights.double().numpy(),
    )
    assert grad is not None
    assert loss.dtype == torch.float32
    assert grad.dtype == scores.dtype
    assert float(loss) == pytest.approx(expected.loss, rel=1e-6, abs=1e-30, nan_ok=True)
    step = torch.finfo(scores.dtype).eps if scores.dtype != torch.float32 else 1e-6
    tiny = float(torch.finfo(scores.dtype).smallest_normal) * step
    found = grad.double().numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected.gradient))
    error = np.nan_to_num(np.abs(found - expected.gradient))
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
    alone, nothing = dftopk_cross_entropy(scores, labels, 7, 1.0, None, None, False)
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
    scores[0] = torch.nan
    none = torch.zeros(4, 9, dtype=torch.bool)
    for k, mask, weights in (
        (0, None, None),
        (9, None, None),
        (torch.tensor([0, -3, 9, 2**40]), None, None),
        (3, none, None),
        (3, None, torch.zeros(4)),
    ):
        loss, grad = dftopk_cross_entropy(scores, labels, k, 1.0, mask, weights, True)
        assert float(loss) == 0
        assert grad is not None
        assert torch.equal(grad, torch.zeros(4, 9))


def test_no_rows_and_no_columns() -> None:
    for shape in ((0, 5), (3, 0)):
        scores = torch.zeros(shape)
        loss, grad = dftopk_cross_entropy(scores, scores > 0, 2, 1.0, None, None, True)
        assert float(loss) == 0
        assert grad is not None
        assert grad.shape == shape


def test_nan_poisons_its_undecided_row_and_no_other() -> None:
    scores, labels = draw(6, 12)
    scores[1, 4] = torch.nan
    scores[3, 2] = -torch.tensor(torch.nan)
    scores[4] = torch.nan
    scores[5] = INF  # both boundaries infinite, so that no share of theirs carries the NaN
    scores[5, 0] = torch.nan
    k = torch.tensor([3, 3, 3, 12, 2, 4])
    loss, grad = check(scores, labels, k)
    assert loss.isnan()
    assert grad.isnan().any(-1).tolist() == [False, True, False, False, True, True]
    mask = torch.ones(6, 12, dtype=torch.bool)
    mask[:, 7:] = False
    grad = check(scores, labels, k, mask=mask)[1]
    assert grad.isnan().sum(-1).tolist() == [0, 7, 0, 0, 7, 7]


def test_loss_is_exact_to_the_last_bits() -> None:
    for distance in (0.0, 0.25, 1.0, 4.0):
        scores = torch.tensor([[distance, -distance]])
        loss, _ = check(scores, scores > INF, 1)
        assert float(loss) == pytest.approx(
            (math.log1p(math.exp(distance)) + math.log1p(math.exp(-distance))) / 2, rel=2e-7
        )


def test_infinite_scores() -> None:
    scores, _ = draw(11, 12)
    scores[:, :3] = INF
    scores[:, 3:7] = -INF
    k = torch.arange(1, 12)
    loss, _ = check(scores, scores > 0, k)  # +inf labelled true, -inf false: no loss from them
    assert loss.isfinite()
    loss, _ = check(scores, scores < 0, k)
    assert loss == INF


def test_rows_of_few_values_in_every_constellation() -> None:
    generator = torch.Generator().manual_seed(2)
    one = 1 + 2.0**-23
    values = torch.tensor([-INF, -1e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, one, 2.0, 1e38, INF])
    for spread in (3, 6, 12):
        start = torch.randint(0, 13 - spread, (200, 1), generator=generator)
        scores = values[start + torch.randint(0, spread, (200, 9), generator=generator)]
        labels = torch.rand(200, 9, generator=generator) < 0.5
        labels = labels.where(scores.isfinite(), scores > 0)
        mask = torch.rand(200, 9, generator=generator) < 0.8
        ks = torch.randint(0, 10, (200,), generator=generator)
        check(scores, labels, ks, 1.0, mask)


def test_inputs_that_are_not_contiguous() -> None:
    scores, labels = draw(10, 30)
    loss, grad = check(scores.T, labels.T, 4, 1.0, (scores.T < 1), torch.rand(60)[::2])
    assert grad.shape == (30, 10)
    assert loss > 0


@pytest.mark.parametrize("tau", [1e-3, 50.0, 1e-45])
def test_temperatures_far_from_1(tau: float) -> None:
    scores = (8 * draw(6, 40)[0]).round() / 8  # exact differences, so that rounding stays small
    check(scores, draw(6, 40)[1], 10, max(tau, 1e-3))
    loss, grad = dftopk_cross_entropy(scores, scores > 0, 10, tau, None, None, True)
    assert not loss.isnan()
    assert grad is not None
    assert not grad.isnan().any()
