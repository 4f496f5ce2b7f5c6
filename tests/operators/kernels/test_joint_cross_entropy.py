"""The loss of a whole cascade in one go, against the same loss stage by stage in float64."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from operators import joint_cross_entropy
from operators.kernels import cpu
from operators.kernels.joint_cross_entropy import applies

pytestmark = pytest.mark.skipif(
    cpu.instruction_set() < 0,
    reason="the kernels are not built: install a C++ compiler and the package again",
)

SETS = range(cpu.instruction_set() + 1)
INF, NAN = float("inf"), float("nan")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cascade(stages: int, b: int, n: int, scale: float = 1.0) -> list[Tensor]:
    """Scores of 12 bits, so that float32 rounds none of their distances from a midpoint."""
    raw = [normal(b, n, seed=stage) for stage in range(stages)]
    return [(x * 64).round().clamp(-2048, 2047) / 64 * scale for x in raw]


def step_by_step(
    stages: Sequence[Tensor], labels: Tensor, ks: Sequence[int | Tensor], *rest: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    mask, weights = rest
    leaves = [scores.double().requires_grad_() for scores in stages]
    wide = None if weights is None else weights.double()
    assert not applies(leaves, labels, ks, 0.5, mask, wide)
    loss = joint_cross_entropy(leaves, labels, ks, tau=0.5, mask=mask, weights=wide)
    return loss.detach(), list(torch.autograd.grad(loss, leaves))


def assert_equal(
    found: tuple[Tensor, Sequence[Tensor]] | None, expected: tuple[Tensor, Sequence[Tensor]]
) -> None:
    assert found is not None
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-6, atol=1e-30)
    for grad, right in zip(found[1], expected[1], strict=True):
        assert (grad - right).abs().max() <= 2e-6 * right.abs().max()


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("stages", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [2, 15, 40, 1000])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_every_instruction_set(instructions: int, stages: int, n: int, scale: float) -> None:
    scores = cascade(stages, 5, n, scale)
    labels = normal(5, n, seed=9) > 0.5
    ks = [max(n // (stage + 2), 1) for stage in range(stages)]
    found = cpu.joint_cross_entropy(scores, labels, ks, 0.5, None, None, True, instructions)
    assert_equal(found, step_by_step(scores, labels, ks, None, None))


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("seed", range(8))
def test_masks_weights_and_a_k_of_each_row(instructions: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    b, n = 12, 50
    scores = cascade(3, b, n)
    labels = torch.rand(b, n, generator=generator) < 0.3
    mask = torch.rand(b, n, generator=generator) < 0.7
    weights = torch.rand(b, generator=generator)
    # Some rows are dropped by a stage, some passed by it, some by all.
    ks: list[Tensor | int] = [torch.randint(0, 60, (b,), generator=generator) for _ in range(3)]
    ks[0] = torch.where(torch.arange(b) < 2, 99, torch.as_tensor(ks[0]))
    found = cpu.joint_cross_entropy(scores, labels, ks, 0.5, mask, weights, True, instructions)
    assert_equal(found, step_by_step(scores, labels, ks, mask, weights))


@pytest.mark.parametrize("label", [True, False])
def test_far_from_every_threshold(label: bool) -> None:
    """Losses from far below the spacing of floats at 1 to where exp overflows."""
    for scale in (1.0, 30.0, 1e4):
        scores = [torch.tensor([[scale, 0.0, 0.0, -scale]])] * 2
        for keep in range(4):
            counted = torch.zeros(1, 4, dtype=torch.bool)
            counted[0, keep] = True
            labels = torch.full((1, 4), label)
            leaves = [x.clone().requires_grad_() for x in scores]
            loss = joint_cross_entropy(leaves, labels, [1, 2], tau=0.5)
            loss.backward()
            expected = step_by_step(scores, labels, [1, 2], None, None)
            assert_equal((loss.detach(), [torch.as_tensor(x.grad) for x in leaves]), expected)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    kernel: Callable[..., tuple[Tensor, tuple[Tensor, ...]] | None] = cpu.joint_cross_entropy

    def spy(*arguments: object) -> tuple[Tensor, tuple[Tensor, ...]] | None:
        calls.append(1)
        return kernel(*arguments)

    monkeypatch.setattr(cpu, "joint_cross_entropy", spy)
    return calls


def test_callers_get_the_kernel_with_gradients_of_any_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = spied(monkeypatch)
    scores = [x.view(2, 3, 40) for x in cascade(2, 6, 40)]
    labels = normal(2, 3, 40, seed=9) > 0.5
    leaves = [scores[0].half().requires_grad_(), scores[1].transpose(0, 1).clone()]
    leaves[1] = leaves[1].transpose(0, 1).requires_grad_()
    loss = joint_cross_entropy(leaves, labels, [20, torch.tensor([[5], [9]])], tau=0.5)
    (3 * loss).backward()
    assert calls == [1]
    expected = step_by_step(scores, labels, [20, torch.tensor([[5], [9]])], None, None)
    torch.testing.assert_close(loss.double().detach(), expected[0], rtol=1e-6, atol=0)
    assert leaves[0].grad is not None
    assert leaves[0].grad.dtype == torch.float16
    torch.testing.assert_close(leaves[0].grad.double(), 3 * expected[1][0], rtol=2e-3, atol=1e-6)
    assert leaves[1].grad is not None
    torch.testing.assert_close(leaves[1].grad.double(), 3 * expected[1][1], rtol=1e-5, atol=1e-8)


def test_a_second_backward_gives_the_same_and_shares_no_memory() -> None:
    leaf, fixed = cascade(2, 3, 40)
    leaf.requires_grad_()
    loss = joint_cross_entropy([leaf, fixed], fixed > 1, [20, 9])
    loss.backward(retain_graph=True)
    assert leaf.grad is not None
    first = leaf.grad.clone()
    leaf.grad.zero_()
    loss.backward()
    assert torch.equal(leaf.grad, first)
    assert fixed.grad is None


def test_gradients_of_gradients_are_those_of_the_steps() -> None:
    scores = cascade(2, 3, 12)
    labels = normal(3, 12, seed=9) > 0.5

    def curvature(stages: list[Tensor]) -> tuple[Tensor, ...]:
        leaves = [x.requires_grad_() for x in stages]
        loss = joint_cross_entropy(leaves, labels, [6, 3])
        grads = torch.autograd.grad(loss, leaves, create_graph=True)
        return torch.autograd.grad(torch.stack(grads).square().sum(), leaves)

    found = curvature([x.clone() for x in scores])
    right = curvature([x.double() for x in scores])
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-6)


def test_infinite_scores_are_treated_as_in_the_steps() -> None:
    scores = cascade(2, 4, 12)
    scores[0][0, :3] = INF
    scores[1][1, :11] = -INF
    scores[1][2, 4] = INF
    labels = normal(4, 12, seed=9) > 0.5
    leaves = [x.clone().requires_grad_() for x in scores]
    loss = joint_cross_entropy(leaves, labels, [6, 3], tau=0.5)
    loss.backward()
    expected = step_by_step(scores, labels, [6, 3], None, None)
    assert_equal((loss.detach(), [torch.as_tensor(x.grad) for x in leaves]), expected)


def test_nan_makes_the_loss_nan() -> None:
    scores = cascade(2, 4, 12)
    scores[1][2, 4] = NAN
    leaves = [x.clone().requires_grad_() for x in scores]
    loss = joint_cross_entropy(leaves, scores[0] > 1, [6, 3])
    loss.backward()
    assert loss.isnan()
    assert leaves[1].grad is not None
    assert leaves[1].grad[2].isnan().all()
    assert not leaves[1].grad[[0, 1, 3]].isnan().any()


def test_what_the_kernel_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spied(monkeypatch)
    scores = cascade(9, 2, 12)
    labels = scores[0] > 1
    two, ks = scores[:2], [6, 3]
    joint_cross_entropy(scores, labels, [6] * 9)
    joint_cross_entropy(two, labels.float(), ks)
    joint_cross_entropy(two, labels, ks, mask=[None, scores[2] > -1])
    joint_cross_entropy(two, labels, ks, passes=[labels, None])
    joint_cross_entropy(two, labels, ks, tau=1e-31)
    joint_cross_entropy(two, labels, ks, operator="lapsum")
    torch.func.grad(lambda x: joint_cross_entropy([x, two[1]], labels, ks))(two[0])
    assert not calls
    joint_cross_entropy(two, labels, ks)
    assert calls == [1]
