"""Cross-entropy of DFTopK in one go: the loss and its gradient, from kernels where there are some.

With z = (x - theta) / tau and s = -z where the label is True, z where it is False, an entry's loss
is softplus(s), and its slope in z is -sigmoid(s) or sigmoid(s). Theta is the midpoint of two
scores, so half of a row's summed slopes is taken from the entries tied with each of them.

Legend: B rows, N candidates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from operators.kernels import cpu
from operators.kernels.boundary import boundary


class Batch(NamedTuple):
    """The arguments of the loss, as rows."""

    scores: Tensor
    """float16, bfloat16, float32 or float64 [B, N]."""
    labels: Tensor
    """bool [B, N]."""
    ks: Tensor | None
    """int64 [B]; None: `k` for all rows."""
    k: int
    tau: float
    mask: Tensor | None
    """bool [B, N]."""
    weights: Tensor | None
    """float [B], without gradient."""


Twin = Callable[[Tensor, Tensor, int | Tensor, float, Tensor | None, Tensor | None], Tensor]
"""The same loss in differentiable torch operations, of the fields of a batch, ks or k."""


def applies(scores: Tensor, labels: Tensor, *others: object) -> bool:
    """Whether the loss can be computed in one go: by hand, on the CPU, of bool labels.

    Not inside compiled code or the transforms of `torch.func`, which want to see every step.
    """
    tensors = [scores, labels, *(other for other in others if isinstance(other, Tensor))]
    return (
        labels.dtype == torch.bool
        and scores.numel() > 0
        and not torch.compiler.is_compiling()
        and all(tensor.is_cpu and _is_plain(tensor) for tensor in tensors)
        and not any(tensor.requires_grad for tensor in tensors[1:])
    )


def _is_plain(tensor: Tensor) -> bool:
    is_torch = type(tensor) is Tensor or isinstance(tensor, torch.nn.Parameter)
    return is_torch and torch.func.debug_unwrap(tensor) is tensor


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
    """The gradient is made with the loss; only a gradient of the gradient needs the twin."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # noqa: ANN401
        *fields, twin = arguments
        batch = Batch(*fields)
        loss, grad = loss_and_gradient(batch, twin, ctx.needs_input_grad[0])
        ctx.save_for_backward(batch.scores, batch.labels, batch.ks, batch.mask, batch.weights, grad)
        ctx.k, ctx.tau, ctx.twin = batch.k, batch.tau, twin
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        scores, labels, ks, mask, weights, grad = ctx.saved_tensors
        if torch.is_grad_enabled():
            loss = ctx.twin(scores, labels, ctx.k if ks is None else ks, ctx.tau, mask, weights)
            (grad,) = torch.autograd.grad(loss, scores, grads[0], create_graph=True)
        elif grads[0].item() != 1:
            grad = grad * grads[0].to(grad.dtype)
        return grad, *(None for _ in range(7))


def loss_and_gradient(batch: Batch, twin: Twin, with_grad: bool) -> tuple[Tensor, Tensor]:
    """Scalar, and [B, N] in the type of the scores; [0] in its place if it is not wanted."""
    wide = batch.scores.to(torch.promote_types(batch.scores.dtype, torch.float32))
    wide_batch = batch._replace(scores=wide)
    found = None
    if cpu.takes(wide) and cpu.TAUS[0] <= batch.tau <= cpu.TAUS[1]:
        found = _by_kernel(wide_batch, with_grad)
    elif bool(wide.isfinite().all()):
        found = by_torch(wide_batch, with_grad)
    loss, grad = found or _by_twin(wide_batch, twin, with_grad)
    return loss, grad.to(batch.scores.dtype)


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


def by_torch(batch: Batch, with_grad: bool) -> tuple[Tensor, Tensor]:
    """The kernel's twin in torch operations, for finite float32 or float64 scores."""
    scores, labels, ks, k, tau, mask, weights = batch
    b, n = scores.shape
    if n < 2:
        return scores.new_zeros(()), torch.zeros_like(scores) if with_grad else scores.new_empty(0)
    places = torch.as_tensor(k) if ks is None else ks
    entries = torch.as_tensor(n) if mask is None else mask.sum(-1)
    is_open = (places > 0) & (places < entries)
    row_weights = is_open.to(scores.dtype)
    if weights is not None:
        row_weights = row_weights * weights
    total = (row_weights * entries).expand(b).sum()
    each = row_weights.expand(b).unsqueeze(-1) / torch.where(total > 0, total, 1.0)
    whole = ks is None and mask is None
    ranked = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    upper, lower = boundary(ranked, k if ks is None else ks.unsqueeze(-1))
    distance = ranked - (0.5 * upper + 0.5 * lower)
    near = distance.abs() <= torch.maximum(upper - lower, lower.new_zeros(()))
    toward = distance.div_(tau).mul_(1 - 2 * labels.to(scores.dtype))
    if not whole:
        toward = toward.masked_fill_(~_counts(is_open, mask, scores), -torch.inf)
    loss = (softplus(toward).sum(-1, keepdim=True) * each).sum()
    if not with_grad:
        return loss, scores.new_empty(0)
    slopes = toward.sigmoid_().mul_(1 - 2 * labels.to(scores.dtype)).mul_(each / tau)
    half = -0.5 * slopes.sum(-1)
    rows, places = near.nonzero(as_tuple=True)
    for cut in (upper, lower):
        tied = ranked[rows, places] == cut[rows, 0]
        at = rows[tied]
        share = half / torch.bincount(at, minlength=b)
        slopes.index_put_((at, places[tied]), share[at], accumulate=True)
    return loss, slopes


def _counts(is_open: Tensor, mask: Tensor | None, scores: Tensor) -> Tensor:
    rows = is_open.expand(len(scores)).unsqueeze(-1)
    return rows.expand_as(scores) if mask is None else rows & mask
