"""DFTopK with cross-entropy in torch operations: loss and gradient in closed form.

Passes over B x N numbers are what it costs beside the selection, so they are few, and none makes or
reads a bool: those take many times as long as floats.

Legend: B rows, N candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from operators.kernels.boundary import find


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


def cross_entropy(batch: Batch, with_grad: bool) -> tuple[Tensor, Tensor]:
    """Weighted mean cross-entropy, and its gradient [B, N]; [0] in its place if it is not wanted.

    Args:
        batch: of finite float32 or float64 scores.
        with_grad: whether the gradient is wanted.
    """
    scores, labels, ks, k, tau, mask, _ = batch
    n = scores.shape[-1]
    if n < 2 or (ks is None and not 0 < k < n):
        return scores.new_zeros(()), torch.zeros_like(scores) if with_grad else scores.new_empty(0)
    each = _weight_of_an_entry(batch)
    # -1 where the label is True, 1 where it is not.
    sign = labels.view(torch.uint8).to(scores.dtype).mul_(-2).add_(1)
    ranked = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    upper, lower = find(ranked, None if ks is None else ks.unsqueeze(-1), k)
    # Infinite only in a row that does not count.
    theta = (upper / 2 + lower / 2).nan_to_num(0.0, 0.0, 0.0)
    toward = torch.sub(scores, theta).mul_(sign)
    if tau != 1:
        toward.div_(tau)
    if mask is not None:
        toward.masked_fill_(~mask, -torch.inf)
    loss = (softplus(toward).sum(-1, keepdim=True) * each).sum()
    if not with_grad:
        return loss, scores.new_empty(0)
    slopes = toward.sigmoid_().mul_(sign).mul_(each / tau)
    half = slopes.sum(-1, keepdim=True).mul_(-0.5)
    for cut in (upper, lower):
        tied = torch.eq(ranked, cut, out=sign)
        # At least 1: in a row that does not count a boundary may be -inf, and nothing is shared.
        slopes.addcmul_(tied, half / tied.sum(-1, keepdim=True).clamp_(min=1))
    return loss, slopes


def _weight_of_an_entry(batch: Batch) -> Tensor | float:
    """What an entry of each row weighs, over the weight of all; 0 in rows that do not count."""
    scores, _, ks, k, _, mask, weights = batch
    b, n = scores.shape
    if ks is None and mask is None and weights is None:
        return 1 / (b * n)
    entries = n if mask is None else mask.sum(-1, keepdim=True)
    places = k if ks is None else ks.unsqueeze(-1)
    counts = torch.as_tensor((places > 0) & (places < entries)).to(scores.dtype).expand(b, 1)
    row_weights = counts if weights is None else counts * weights.unsqueeze(-1)
    total = (row_weights * entries).sum()
    return row_weights / torch.where(total > 0, total, 1.0)
