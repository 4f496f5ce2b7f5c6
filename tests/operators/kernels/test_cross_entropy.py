"""The loss in one go as callers meet it: gradients scaled, repeated, differentiated; on a GPU too.

What is said of Triton is tried on a CUDA device and, in a process that `test_triton.py` starts, by
Triton's interpreter on the CPU.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from operators import topk_cross_entropy
from operators.kernels import triton_cross_entropy
from operators.kernels.cross_entropy import scaled
from operators.kernels.triton_cross_entropy import SHIFTS, try_dftopk_cross_entropy
from tests.operators.kernels.test_triton import needs_gpu, needs_triton

INF = float("inf")

# The interpreter computes with numpy, which warns where a device quietly gives inf or NaN.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")

interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton's interpreter, in which test_triton.py runs this file",
)
every_kind_of_score = pytest.mark.parametrize("dtype", list(SHIFTS))


class Case(NamedTuple):
    """Arguments of the loss, on the CPU."""

    scores: Tensor
    labels: Tensor
    k: int | Tensor
    tau: float = 0.7
    mask: Tensor | None = None
    weights: Tensor | None = None

    def to(self, device: torch.device | str) -> "Case":
        return Case(
            self.scores.to(device),
            self.labels.to(device),
            self.k.to(device) if isinstance(self.k, Tensor) else self.k,
            self.tau,
            None if self.mask is None else self.mask.to(device),
            None if self.weights is None else self.weights.to(device),
        )

    def loss_of(self, scores: Tensor) -> Tensor:
        """Loss of other scores, of any type and on any device."""
        _, labels, k, tau, mask, weights = self.to(scores.device)
        return topk_cross_entropy(scores, labels, k, "dftopk", tau, mask, weights)


def case(kind: str, dtype: torch.dtype = torch.float32) -> Case:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 5, 21, generator=generator).to(dtype)
    labels = torch.rand(3, 5, 21, generator=generator) < 0.3
    mask = torch.rand(3, 5, 21, generator=generator) < 0.8
    weights = torch.rand(3, 5, generator=generator)
    k_B = torch.arange(15).reshape(3, 5)
    match kind:
        case "rows of every k":
            return Case(scores, labels, k_B[0], mask=mask, weights=weights)
        case "infinite":
            u = torch.rand(3, 5, 21, generator=generator)
            scores = scores.masked_fill(u < 0.2, INF).masked_fill(u > 0.7, -INF)
            return Case(scores, labels, k_B, mask=mask, weights=weights)
        case "another layout":
            return Case(scores.mT.contiguous().mT, labels.mT.contiguous().mT, 6)
        case "no place":
            return Case(scores, labels, 0)
    return Case(scores, labels, 6)


every_case = pytest.mark.parametrize(
    "kind", ["plain", "rows of every k", "infinite", "another layout", "no place"]
)


@pytest.fixture(
    params=[
        pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu, needs_triton]),
        pytest.param("cpu", marks=interpreted, id="interpreted"),
    ]
)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where Triton runs; fails the test if its kernel was never asked."""
    asked = []

    def spy(*arguments: object) -> object:
        asked.append(arguments)
        return try_dftopk_cross_entropy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(triton_cross_entropy, "try_dftopk_cross_entropy", spy)
    if request.param == "cpu":
        monkeypatch.setattr(triton_cross_entropy, "supports", lambda scores: scores.dtype in SHIFTS)
    yield request.param
    assert asked
    assert triton_cross_entropy._failures == []


def in_double(case: Case, upstream: float = 1.0) -> tuple[Tensor, Tensor]:
    scores = case.scores.double().requires_grad_()
    loss = case.loss_of(scores)
    return loss.detach(), torch.autograd.grad(upstream * loss, scores)[0]


def assert_near(found: Tensor, expected: Tensor) -> None:
    """To a few of the last bits of the largest gradient."""
    step = max(2e-6, torch.finfo(found.dtype).eps)
    atol = step * float(expected.abs().max())
    torch.testing.assert_close(found.double().cpu(), expected, rtol=step, atol=atol)


@every_case
@every_kind_of_score
def test_a_device_agrees_with_the_cpu(kind: str, dtype: torch.dtype, device: str) -> None:
    of_cpu = case(kind, dtype)
    scores = of_cpu.scores.to(device).requires_grad_()
    loss = of_cpu.loss_of(scores)
    expected, gradient = in_double(of_cpu)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach().double().cpu(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(of_cpu.loss_of(scores.detach()), loss.detach(), rtol=0, atol=0)
    (first,) = torch.autograd.grad(loss, scores, retain_graph=True)
    (second,) = torch.autograd.grad(-3 * loss, scores, retain_graph=True)
    (again,) = torch.autograd.grad(loss, scores)
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert_near(first, gradient)
    assert_near(second, -3 * gradient)


@every_kind_of_score
def test_a_loss_of_many_entries_may_be_scaled_up(dtype: torch.dtype, device: str) -> None:
    """Neither 1e-6 of an entry nor a loss scale of 2^20 fits in float16; their product does."""
    weights = torch.tensor([[1e5], [0.1], [1e5]]).expand(3, 5)
    of_cpu = case("plain", dtype)._replace(weights=weights)
    scores = of_cpu.scores.to(device).requires_grad_()
    (gradient,) = torch.autograd.grad(2.0**20 * of_cpu.loss_of(scores), scores)
    expected = in_double(of_cpu, 2.0**20)[1]
    assert_near(gradient, expected)
    assert_near(gradient[1], expected[1])
    assert gradient[1].any()


def test_nan_is_seen_and_stays_in_its_row(device: str) -> None:
    of_cpu = case("rows of every k")
    of_cpu.scores[1, 2, :] = torch.nan
    of_cpu.scores[1, 0, :] = torch.nan  # of k = 0
    scores = of_cpu.scores.to(device).requires_grad_()
    loss = of_cpu.loss_of(scores)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isnan()
    assert gradient.isnan().any(-1).nonzero().tolist() == [[1, 2]]


def test_the_gradient_has_a_gradient(device: str) -> None:
    of_cpu = case("rows of every k")
    direction = torch.randn(3, 5, 21, generator=torch.Generator().manual_seed(4)).double()
    found = []
    for scores in (of_cpu.scores.to(device), of_cpu.scores.double()):
        leaf = scores.requires_grad_()
        (slope,) = torch.autograd.grad(of_cpu.loss_of(leaf), leaf, create_graph=True)
        found.append(torch.autograd.grad((slope * direction.to(slope)).sum(), leaf)[0])
    assert_near(*found)


@pytest.mark.gpu
@needs_gpu
@needs_triton
@every_kind_of_score
def test_nothing_waits_for_the_device(dtype: torch.dtype) -> None:
    on_device = case("rows of every k", dtype).to("cuda")
    scores = on_device.scores.requires_grad_()
    (expected,) = torch.autograd.grad(on_device.loss_of(scores), scores)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        (found,) = torch.autograd.grad(on_device.loss_of(scores), scores)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "place", [pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu, needs_triton]), "cpu"]
)
def test_a_kernel_that_does_not_launch_is_replaced(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no launch")

    monkeypatch.setattr(triton_cross_entropy, "_failures", [])
    monkeypatch.setattr(triton_cross_entropy, "dftopk_cross_entropy", fail)
    monkeypatch.setattr(triton_cross_entropy, "supports", lambda scores: scores.dtype in SHIFTS)
    of_cpu = case("infinite")
    scores = of_cpu.scores.to(place).requires_grad_()
    with pytest.warns(RuntimeWarning, match="Triton kernel of DFTopK failed"):
        loss = of_cpu.loss_of(scores)
    expected, gradient = in_double(of_cpu, 2.0)
    torch.testing.assert_close(loss.detach().double().cpu(), expected, rtol=1e-6, atol=0)
    assert_near(torch.autograd.grad(2 * loss, scores)[0], gradient)


@pytest.mark.parametrize("tau", [1e-31, 1e31])
def test_a_temperature_beyond_the_kernel_takes_other_ways(
    tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_cpu = case("plain")._replace(tau=tau)
    expected = of_cpu.loss_of(of_cpu.scores)
    monkeypatch.setattr(triton_cross_entropy, "supports", lambda _: True)
    monkeypatch.delattr(triton_cross_entropy, "try_dftopk_cross_entropy")
    assert torch.equal(of_cpu.loss_of(of_cpu.scores), expected)


@pytest.mark.parametrize("place", [pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu]), "cpu"])
@pytest.mark.parametrize("grad_dtype", [torch.float32, torch.bfloat16])
def test_a_factor_is_not_rounded_to_the_type_of_the_gradient(
    grad_dtype: torch.dtype, place: str
) -> None:
    grad = torch.arange(1.0, 3000.0, device=place).to(grad_dtype)
    factor = torch.tensor(1 / 3 + 1e-3, device=place)
    found = scaled(grad.clone(), factor, torch.bfloat16)
    assert torch.equal(found, (grad.float() * factor).to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_after_the_loss_is_scaled(dtype: torch.dtype) -> None:
    of_cpu = case("plain", dtype)._replace(tau=1e4)  # slopes of 1e-7
    scores = of_cpu.scores.requires_grad_()
    (gradient,) = torch.autograd.grad(2.0**20 * of_cpu.loss_of(scores), scores)
    assert_near(gradient, in_double(of_cpu, 2.0**20)[1])
