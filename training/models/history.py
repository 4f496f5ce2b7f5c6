"""How often, how recently and how regularly a candidate, and its kind, stands in the history.

Legend: B requests, L history length, N candidates, G item groupings, W decay windows.
"""

import torch
from torch import Tensor, nn

WINDOWS_DAYS = (7.0, 30.0, 90.0, 365.0)
"""Time constants over which a past interaction loses its weight."""


class HistoryMatch(nn.Module):
    """Decayed counts and timing of the interactions that match each candidate.

    Items match by themselves and by every further grouping, such as product type. Group 0 is
    "unknown" and matches nothing. Cost is O((N + L) log N) a request and a grouping.
    """

    def __init__(self, groups_GI: Tensor) -> None:
        """Take int64 [G, items + 1], the group of each item row in each grouping."""
        super().__init__()
        self.register_buffer("groups_GI", groups_GI)
        self.groups_GI: Tensor
        # The last window never decays: its sum is the plain count.
        self.register_buffer("rates_W", torch.tensor([*(1 / d for d in WINDOWS_DAYS), 0.0]))
        self.rates_W: Tensor
        self.width = (groups_GI.shape[0] + 1) * (len(WINDOWS_DAYS) + 1) + 3 * groups_GI.shape[0]

    def forward(
        self,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        rows_BN: Tensor,
    ) -> Tensor:
        """Match candidates against histories.

        Returns:
            float32 [B, N, width]: log1p of the history's decayed totals; then per grouping log1p of
            the matching decayed counts, whether anything matches, log1p of the days since the last
            match, and the log ratio of those days to the mean gap between matches.
        """
        N = rows_BN.shape[1]
        valid_BL = torch.arange(
            history_rows_BL.shape[1], device=rows_BN.device
        ) < history_len_B.unsqueeze(1)
        weights_BLW = torch.exp(-history_age_days_BL.unsqueeze(2) * self.rates_W)
        weights_BLW = weights_BLW * valid_BL.unsqueeze(2)
        features = [torch.log1p(weights_BLW.sum(1, keepdim=True)).expand(-1, N, -1)]
        for g in range(self.groups_GI.shape[0]):
            groups_I = self.groups_GI[g]
            history_BL = torch.where(valid_BL, groups_I[history_rows_BL], 0)
            features.append(_match(history_BL, history_age_days_BL, weights_BLW, groups_I[rows_BN]))
        return torch.cat(features, dim=2)


def _match(history_BL: Tensor, age_BL: Tensor, weights_BLW: Tensor, wanted_BN: Tensor) -> Tensor:
    """Features of one grouping, [B, N, W + 3]."""
    B, N = wanted_BN.shape
    W = weights_BLW.shape[2]
    # Each interaction is added where its group first stands among the sorted candidates; those
    # that match none go to one extra place.
    sorted_BN, _ = torch.sort(wanted_BN, dim=1)
    place_BL = torch.searchsorted(sorted_BN, history_BL)
    found_BL = sorted_BN.gather(1, place_BL.clamp(max=N - 1)) == history_BL
    place_BL = torch.where(found_BL & (history_BL != 0), place_BL, N)
    totals_BNW = torch.zeros(B, N + 1, W, device=wanted_BN.device, dtype=weights_BLW.dtype)
    totals_BNW.scatter_add_(1, place_BL.unsqueeze(2).expand(-1, -1, W), weights_BLW)
    extremes_BN = torch.zeros(B, N + 1, device=wanted_BN.device, dtype=age_BL.dtype)
    last_BN = extremes_BN.scatter_reduce(1, place_BL, age_BL, "amin", include_self=False)
    first_BN = extremes_BN.scatter_reduce(1, place_BL, age_BL, "amax", include_self=False)
    place_BN = torch.searchsorted(sorted_BN, wanted_BN)
    counts_BNW = totals_BNW.gather(1, place_BN.unsqueeze(2).expand(-1, -1, W))
    count_BN = counts_BNW[:, :, W - 1]
    known_BN = (count_BN > 0).to(age_BL.dtype)
    last_BN = last_BN.gather(1, place_BN) * known_BN
    first_BN = first_BN.gather(1, place_BN) * known_BN
    gap_BN = (first_BN - last_BN) / (count_BN - 1).clamp(min=1)
    due_BN = (torch.log1p(last_BN) - torch.log1p(gap_BN)) * (count_BN > 1)
    timing_BNX = torch.stack([known_BN, torch.log1p(last_BN), due_BN], dim=2)
    return torch.cat([torch.log1p(counts_BNW), timing_BNX], dim=2)
