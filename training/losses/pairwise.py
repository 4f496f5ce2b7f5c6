"""Weighted logistic loss over the pairs of a request's candidates, in memory that is linear.

Legend: B requests, N candidates, b requests of a chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from training.losses.chunks import chunks

Weigh = Callable[[slice], Tensor]
"""Weights [b, N, N] of the pairs of a slice of the requests, at least 0, without a gradient."""


def pairwise_logistic(scores_BN: Tensor, weigh: Weigh) -> Tensor:
    """`sum_ij w_ij log(1 + exp(x_j - x_i))` of every request: candidate i should be above j.

    The gradient is made on the way forward, chunk by chunk, so that no matrix of pairs is kept.
    It cannot be differentiated again.

    Args:
        scores_BN: floating point [B, N], finite; 0 in the padding.
        weigh: gives w for a slice of the requests; 0 in the padding.

    Returns:
        [B].
    """
    sums_B: Tensor = _PairwiseLogistic.apply(scores_BN, weigh)  # type: ignore[no-untyped-call]
    return sums_B


class _PairwiseLogistic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores_BN: Tensor, weigh: Weigh) -> Tensor:  # noqa: ANN401
        sums_B, grad_BN = scores_BN.new_zeros(len(scores_BN)), torch.zeros_like(scores_BN)
        for chunk in chunks(*scores_BN.shape):
            w, x = weigh(chunk), scores_BN[chunk]
            lead = x.unsqueeze(1) - x.unsqueeze(2)  # [b, i, j] = x_j - x_i
            sums_B[chunk] = (w * softplus(lead)).sum((1, 2))
            if ctx.needs_input_grad[0]:
                push = w * lead.sigmoid_()
                grad_BN[chunk] = push.sum(1) - push.sum(2)
        ctx.save_for_backward(grad_BN)
        return sums_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (grad_BN,) = ctx.saved_tensors
        return grads[0].unsqueeze(1) * grad_BN, None
