"""Weighted means of what counts in a batch, 0 where nothing does.

Legend: B requests, N candidates.
"""

import torch
from torch import Tensor


def request_mean(values_B: Tensor, counted_B: Tensor, weights_B: Tensor) -> Tensor:
    """Mean over the requests that count: the sum of weight times value over the sum of weights.

    Args:
        values_B: floating point [B], any number but NaN where a request does not count.
        counted_B: bool [B].
        weights_B: floating point [B], at least 0: what a request weighs.
    """
    weight_B = weights_B.masked_fill(~counted_B, 0.0)
    total = weight_B.sum()
    return (weight_B * values_B).sum() / torch.where(total > 0, total, 1.0)


def entry_mean(values_BN: Tensor, counted_BN: Tensor, weights_B: Tensor) -> Tensor:
    """Mean over the entries that count, each with its request's weight.

    Args:
        values_BN: floating point [B, N], any number but NaN where an entry does not count.
        counted_BN: bool [B, N].
        weights_B: floating point [B], at least 0: what each entry of a request weighs.
    """
    weight_BN = weights_B.unsqueeze(1) * counted_BN
    total = weight_BN.sum()
    return (weight_BN * values_BN).sum() / torch.where(total > 0, total, 1.0)
