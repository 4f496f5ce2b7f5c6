"""Losses that look at one entry at a time: what a stage is trained with when it is trained alone.

Legend: B requests, N candidates.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def binary_cross_entropy(
    logits_BN: Tensor,
    labels_BN: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Weighted mean binary cross-entropy over the valid entries.

    Args:
        logits_BN: floating point [B, N].
        labels_BN: bool [B, N].
        mask: bool [B, N], True where an entry is valid; all are if it is left out.
        weights: floating point [B, N], at least 0; 1 if left out. What padding weighs is ignored.

    Returns:
        Scalar: the sum of weight times loss over the sum of weights; 0 if those sum to 0.

    Raises:
        ValueError: an argument of a wrong type or shape.
    """
    for name, tensor in (("labels", labels_BN), ("mask", mask)):
        if tensor is not None and tensor.dtype != torch.bool:
            raise ValueError(f"{name} of {tensor.dtype} must be torch.bool; pass {name} > 0")
    for name, tensor in (("labels", labels_BN), ("mask", mask), ("weights", weights)):
        if tensor is not None and tensor.shape != logits_BN.shape:
            raise ValueError(
                f"{name} of shape {list(tensor.shape)} must have the logits' shape "
                f"{list(logits_BN.shape)}"
            )
    logits = logits_BN if logits_BN.dtype == torch.float64 else logits_BN.float()
    weight = torch.ones_like(logits) if weights is None else weights.to(logits.dtype)
    if mask is not None:
        logits = logits.masked_fill(~mask, 0.0)
        weight = weight.masked_fill(~mask, 0.0)
    losses = binary_cross_entropy_with_logits(logits, labels_BN.to(logits.dtype), reduction="none")
    total = weight.sum()
    return (weight * losses).sum() / torch.where(total > 0, total, 1.0)
