"""Cross-entropy of surviving every stage's DFTopK in one go: the loss and all its gradients.

Legend: ... any leading dimensions ("rows"), B rows in all, N candidates.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from operators.kernels import cpu
from operators.kernels.cross_entropy import by_hand, scaled

Twin = Callable[[Sequence[Tensor]], Tensor]
"""The same loss in differentiable torch operations, of the stages' scores."""


class Fixed(NamedTuple):
    """The arguments of the loss that have no gradient, as rows."""

    labels: Tensor
    """bool [B, N]."""
    ks: list[Tensor | int]
    """For each stage int64 [B], or one for all rows."""
    tau: float
    mask: Tensor | None
    """bool [B, N]."""
    weights: Tensor | None
    """float32 [B]."""


def applies(
    stages: Sequence[Tensor],
    labels: Tensor,
    ks: Sequence[int | Tensor],
    tau: float,
    mask: object,
    weights: Tensor | None,
) -> bool:
    """Whether there is a kernel for these arguments, and they are not traced.

    It takes float32 and half precisions on the CPU, bool labels, and one mask for all stages.
    """
    given = (labels, mask, weights, *ks)
    others = [other for other in given if isinstance(other, Tensor)]
    return (
        labels.dtype == torch.bool
        and labels.numel() > 0
        and len(stages) <= cpu.STAGES
        and (mask is None or isinstance(mask, Tensor))
        and by_hand(*stages, *others)
        and not any(other.requires_grad for other in others)
        and all(scores.is_cpu and scores.dtype != torch.float64 for scores in stages)
        and cpu.TAUS[0] <= tau <= cpu.TAUS[1]
        and cpu.built()
    )


def cross_entropy(
    stages: Sequence[Tensor],
    labels: Tensor,
    ks: Sequence[int | Tensor],
    tau: float,
    mask: Tensor | None,
    weights: Tensor | None,
    twin: Twin,
) -> Tensor:
    """Weighted mean cross-entropy between survival and the labels.

    The arguments are those of `operators.joint_cross_entropy`, checked, and `twin` says the same.
    """
    rows, n = labels.shape[:-1], labels.shape[-1]
    fixed = Fixed(
        labels.reshape(-1, n).contiguous(),
        [k.expand(rows).reshape(-1).long() if isinstance(k, Tensor) else k for k in ks],
        tau,
        None if mask is None else mask.reshape(-1, n).contiguous(),
        None if weights is None else weights.reshape(-1).float().contiguous(),
    )
    loss: Tensor = _JointCrossEntropy.apply(fixed, twin, *stages)  # type: ignore[no-untyped-call]
    return loss


class _JointCrossEntropy(torch.autograd.Function):
    """Gradients are made with the loss; only a gradient of a gradient needs the twin.

    The first backward gives them away, so that no copy is made of them; a second makes them anew.
    """

    @staticmethod
    def forward(ctx: Any, fixed: Fixed, twin: Twin, *stages: Tensor) -> Tensor:  # noqa: ANN401
        loss, ctx.made = _loss_and_gradients(fixed, twin, stages, any(ctx.needs_input_grad))
        ctx.save_for_backward(*stages)
        ctx.fixed, ctx.twin = fixed, twin
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        stages = ctx.saved_tensors
        if torch.is_grad_enabled():
            wanted = [scores for scores in stages if scores.requires_grad]
            found = iter(torch.autograd.grad(ctx.twin(stages), wanted, grads[0], create_graph=True))
            result = [next(found) if scores.requires_grad else None for scores in stages]
            return None, None, *result
        if ctx.made is None:
            _, ctx.made = _loss_and_gradients(ctx.fixed, ctx.twin, stages, True)
        made, ctx.made = ctx.made, None
        shaped = (
            scaled(grad, grads[0], scores.dtype).view(scores.shape)
            for grad, scores in zip(made, stages, strict=True)
        )
        return None, None, *shaped


def _loss_and_gradients(
    fixed: Fixed, twin: Twin, stages: Sequence[Tensor], with_grad: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    n = stages[0].shape[-1]
    wide = [scores.float().reshape(-1, n).contiguous() for scores in stages]
    found = cpu.joint_cross_entropy(wide, *fixed, with_grad)
    return found or _by_twin(twin, stages, with_grad)


def _by_twin(
    twin: Twin, stages: Sequence[Tensor], with_grad: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    with torch.set_grad_enabled(with_grad):
        leaves = [scores.detach().float().requires_grad_(with_grad) for scores in stages]
        loss = twin(leaves)
    if not with_grad:
        return loss, ()
    return loss.detach(), torch.autograd.grad(loss, leaves)
