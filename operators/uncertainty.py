"""Learned weights for a sum of losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class UncertaintyWeighting(nn.Module):
    """Weighs losses by learned uncertainty: sum of `0.5 * exp(-s_i) * L_i + 0.5 * s_i`.

    `s = log(w^2)` is learned rather than w, so that no step can make a weight negative.
    Source: Kendall, Gal and Cipolla, CVPR 2018 (arXiv 1705.07115), section 3.
    """

    def __init__(self, losses: int) -> None:
        """Start with equal weights of 0.5.

        Raises:
            ValueError: `losses` is below 1.
        """
        super().__init__()
        if losses < 1:
            raise ValueError(f"losses == {losses} must be at least 1")
        self.log_variance = nn.Parameter(torch.zeros(losses))

    def forward(self, losses: Sequence[Tensor]) -> Tensor:
        """Weighted sum of scalar losses, in the order that was agreed on.

        Raises:
            ValueError: not as many losses as weights.
        """
        if len(losses) != len(self.log_variance):
            raise ValueError(
                f"{len(losses)} losses given, {len(self.log_variance)} weights learned; "
                "pass as many as the constructor was told"
            )
        s = self.log_variance
        return (0.5 * (-s).exp() * torch.stack(list(losses)) + 0.5 * s).sum()
