"""Cross-entropy of DFTopK in one go: the loss and its gradient, from kernels where there are some.

With z = (x - theta) / tau and s = -z where the label is True, z where it is False, an entry's loss
is softplus(s), and its slope in z is -sigmoid(s) or sigmoid(s). Theta is the midpoint of two
scores, so half of a row's summed slopes is taken from the entries tied with each of them.

Legend: B rows, N candidates.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from operators.kernels import cpu, torch_cross_entropy, triton_cross_entropy
from operators.kernels.torch_cross_entropy import Batch

Twin = Callable[[Tensor, Tensor, int | Tensor, float, Tensor | None, Tensor | None], Tensor]
"""The same loss in differentiable torch operations, of the fields of a batch, ks or k."""


def applies(scores: Tensor, labels: Tensor, *others: object) -> bool:
    """Whether the loss can be computed in one go: by hand, of bool labels, on one device."""
    tensors = [scores, labels, *(other for other in others if isinstance(other, Tensor))]
    return (
        labels.dtype == torch.bool
        and scores.numel() > 0
        and by_hand(*tensors)
        and (scores.is_cpu or triton_cross_entropy.supports(scores))
        and all(tensor.device == scores.device for tensor in tensors)
        and not any(tensor.requires_grad for tensor in tensors[1:])
    )


def by_hand(*tensors: Tensor) -> bool:
    """Whether these are numbers to compute with at once.

    Not inside compiled code or the transforms of `torch.func`, which want to see every step.
    """
    plain = all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)
    return (
        plain
        and not torch.compiler.is_compiling()
        and all(torch.func.debug_unwrap(tensor) is tensor for tensor in tensors)
    )


def cross_entropy(
    scores: Tensor,
    labels: Tensor,
    k: int | Tensor,
    tau: float,
    mask: Tensor | None,
    weights: Tensor | None,
    twin: Twin,
) -> Tensor:
    """Weighted mean cross-entropy between DFTopK's soft membership and the labels.

    The arguments are those of `operators.topk_cross_entropy`, checked, and `twin` says the same.
    """
    n = scores.shape[-1]
    ks = None
    if isinstance(k, Tensor):
        ks, k = k.expand(scores.shape[:-1]).reshape(-1).long(), 0
    batch = Batch(
        scores.reshape(-1, n),
        labels.reshape(-1, n),
        ks,
        k,
        tau,
        None if mask is None else mask.reshape(-1, n),
        None if weights is None else weights.reshape(-1),
    )
    loss: Tensor = _CrossEntropy.apply(*batch, twin)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    """The gradient is made with the loss; only a gradient of the gradient needs the twin.

    The first backward gives it away, so that no copy is made of it; a second makes it anew.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # noqa: ANN401
        *fields, twin = arguments
        batch = Batch(*fields)
        loss, *ctx.made = loss_and_gradient(batch, twin, ctx.needs_input_grad[0])
        ctx.save_for_backward(batch.scores, batch.labels, batch.ks, batch.mask, batch.weights)
        ctx.k, ctx.tau, ctx.twin = batch.k, batch.tau, twin
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        scores, labels, ks, mask, weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            loss = ctx.twin(scores, labels, ctx.k if ks is None else ks, ctx.tau, mask, weights)
            (grad,) = torch.autograd.grad(loss, scores, grads[0], create_graph=True)
            return grad, *(None for _ in range(7))
        if ctx.made is None:
            batch = Batch(scores, labels, ks, ctx.k, ctx.tau, mask, weights)
            _, *ctx.made = loss_and_gradient(batch, ctx.twin, True)
        (made, scale), ctx.made = ctx.made, None
        grad = scaled(made, grads[0] if scale is None else grads[0] * scale, scores.dtype)
        return grad, *(None for _ in range(7))


def scaled(grad: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """The product in a type that may be narrower, rounded once; `grad` is written over if it may.

    Args:
        grad: of any shape.
        factor: a scalar.
        dtype: type of the product.
    """
    # To look at a number on a device is to wait for it.
    if grad.dtype == dtype and factor.is_cpu and factor.item() == 1:
        return grad
    # As [1] the factor keeps its type, where a scalar would be rounded to that of `grad` first.
    out = grad if grad.dtype == dtype else torch.empty_like(grad, dtype=dtype)
    return torch.mul(grad, factor.reshape(1), out=out)


def loss_and_gradient(
    batch: Batch, twin: Twin, with_grad: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss, a scalar; what times the third is its gradient [B, N]; and a scalar, None if 1.

    The second is nothing of use if no gradient is wanted. It may be wider than the scores.
    """
    in_range = cpu.TAUS[0] <= batch.tau <= cpu.TAUS[1]
    if in_range and triton_cross_entropy.supports(batch.scores):
        launched = _by_triton(batch, with_grad)
        if launched is not None:
            return launched
    wide = batch.scores.to(torch.promote_types(batch.scores.dtype, torch.float32))
    batch = batch._replace(scores=wide)
    found = None
    if in_range and cpu.takes(wide):
        found = _by_kernel(batch, with_grad)
    elif wide.is_cpu and bool(wide.isfinite().all()):
        found = torch_cross_entropy.cross_entropy(batch, with_grad)
    return *(found or _by_twin(batch, twin, with_grad)), None


def _by_triton(batch: Batch, with_grad: bool) -> triton_cross_entropy.Result | None:
    scores, labels, ks, k, tau, mask, weights = batch
    return triton_cross_entropy.try_dftopk_cross_entropy(
        scores, labels, k if ks is None else ks, tau, mask, weights, with_grad
    )


def _by_kernel(batch: Batch, with_grad: bool) -> tuple[Tensor, Tensor] | None:
    return cpu.cross_entropy(
        batch.scores.contiguous(),
        batch.labels.contiguous(),
        None if batch.ks is None else batch.ks.contiguous(),
        batch.k,
        batch.tau,
        None if batch.mask is None else batch.mask.contiguous(),
        None if batch.weights is None else batch.weights.float().contiguous(),
        with_grad,
    )


def _by_twin(batch: Batch, twin: Twin, with_grad: bool) -> tuple[Tensor, Tensor]:
    scores, labels, ks, k, tau, mask, weights = batch
    scores = scores.detach()
    with torch.set_grad_enabled(with_grad):
        scores.requires_grad_(with_grad)
        loss = twin(scores, labels, k if ks is None else ks, tau, mask, weights)
    if not with_grad:
        return loss, scores.new_empty(0)
    return loss.detach(), torch.autograd.grad(loss, scores)[0]
