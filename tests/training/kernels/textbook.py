"""Target attention as it is written down: a network over every pair of behaviour and candidate.

Legend: B requests, N candidates, L history length, P items of the pool, D width, H hidden units.
"""

import torch
from torch import Tensor, nn


class TextbookAttention(nn.Module):
    """Linear over the concatenation, ReLU, Linear to one logit, softmax, weighted sum."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width, units)
        self.out = nn.Linear(units, 1)

    def forward(self, history_BLD: Tensor, items_PD: Tensor, mask: Tensor, picks: Tensor) -> Tensor:
        B, L, D = history_BLD.shape
        N = picks.shape[1]
        pairs_BNLX = torch.cat(
            [
                history_BLD.unsqueeze(1).expand(B, N, L, D),
                items_PD[picks].unsqueeze(2).expand(B, N, L, D),
            ],
            dim=3,
        )
        logits_BNL = self.out(self.hidden(pairs_BNLX).relu()).squeeze(3)
        logits_BNL = logits_BNL.masked_fill(~mask.unsqueeze(1), -torch.inf)
        weights_BNL = logits_BNL.softmax(2).nan_to_num(0.0)  # NaN where there is no behaviour
        attended_BND: Tensor = weights_BNL @ history_BLD
        return attended_BND
