"""History features as they are served, in time linear in history and candidates.

Legend: B requests, L history length, N candidates, R item rows, G item groupings, W decay windows
and the plain count, T features of a grouping.
"""

import torch
from torch import Tensor, nn

from training.models.embedding import FieldEmbedding
from training.models.history import HistoryMatch


class ServedHistoryMatch(nn.Module):
    """The features of `HistoryMatch`, those of the request apart from those of its candidates.

    Every group of every grouping has one key. A candidate leaves its place under its keys in a
    table that nobody clears, and an interaction that finds a place there looks whether the key is
    the candidate's indeed (Briggs and Torczon, "An efficient representation for sparse sets",
    1993).
    """

    def __init__(self, trained: HistoryMatch, fields: FieldEmbedding, spare_rows: int) -> None:
        """Take over the groupings; spare rows match nothing.

        Args:
            trained: matches by item and by the items' first fields.
            fields: of the items.
            spare_rows: rows that follow those of the items.
        """
        super().__init__()
        groups_RG = nn.functional.pad(trained.groups_GI, (0, spare_rows)).t()
        first_F = 1 + len(groups_RG) + fields.offsets_F[: groups_RG.shape[1] - 1]
        self.register_buffer("starts_G", torch.cat([torch.ones_like(first_F[:1]), first_F]))
        self.starts_G: Tensor
        self.n_keys = 1 + len(groups_RG) + fields.table.num_embeddings
        self.register_buffer("keys_RG", self._keys_of(groups_RG).contiguous())
        self.keys_RG: Tensor
        self.register_buffer("rates_W", trained.rates_W.clone())
        self.rates_W: Tensor

    def put_groups(self, rows_N: Tensor, fields_NF: Tensor) -> None:
        """Let items match by themselves and by their first fields."""
        fields = self.keys_RG.shape[1] - 1
        groups_NG = torch.cat([rows_N.unsqueeze(1), fields_NF[:, :fields]], dim=1)
        self.keys_RG[rows_N] = self._keys_of(groups_NG)

    def _keys_of(self, groups_XG: Tensor) -> Tensor:
        """Keys from 2 on; 0 is that of a candidate's unknown groups, 1 of an interaction's."""
        return (groups_XG + self.starts_G) * (groups_XG != 0)

    def forward(
        self,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        valid_BL: Tensor | None,
        rows_BN: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Match candidates against histories.

        Args:
            history_rows_BL: int64 [B, L], item rows.
            history_age_days_BL: float32 [B, L].
            valid_BL: bool [B, L], None where nothing is padding.
            rows_BN: int64 [B, N], item rows of the candidates.

        Returns:
            float32 [B, W], log1p of the history's decayed totals; float32 [B, N, G * T], what
            `HistoryMatch` puts behind these, grouping by grouping.
        """
        B, N = rows_BN.shape
        weights_BLW = torch.exp(-history_age_days_BL.unsqueeze(2) * self.rates_W)
        if valid_BL is not None:
            weights_BLW = weights_BLW * valid_BL.unsqueeze(2)
            history_rows_BL = history_rows_BL * valid_BL
        found, place = self._places(history_rows_BL, rows_BN)
        match = _match(place, found.shape[0], weights_BLW, history_age_days_BL)
        match_BNX = match.index_select(0, found).view(B, N, -1)
        return torch.log1p(weights_BLW.sum(1)), match_BNX

    def _places(self, history_rows_BL: Tensor, rows_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Where candidates and interactions meet.

        Returns:
            int64 [B * N * G], the place that stands for the candidate's group; int64 [G * B * L],
            the place that stands for the interaction's, one past the last where there is none.
        """
        wanted = self._apart(self._keys(rows_BN)).flatten()
        history = self._apart(self._keys(history_rows_BL).clamp_(min=1)).t().flatten()
        places = wanted.shape[0]
        size = rows_BN.shape[0] * self.n_keys
        table = torch.empty(size, dtype=torch.int64, device=wanted.device)
        table.scatter_(0, wanted, torch.arange(places, device=wanted.device))
        place = table.index_select(0, history).clamp_(0, places - 1)
        place = place.masked_fill_(wanted.index_select(0, place) != history, places)
        return table.index_select(0, wanted), place

    def _keys(self, rows_BX: Tensor) -> Tensor:
        """Keys of items, int64 [B, X, G]."""
        return nn.functional.embedding(rows_BX, self.keys_RG)

    def _apart(self, keys_BXG: Tensor) -> Tensor:
        """Keys that no two requests have in common, int64 [B * X, G]."""
        B = keys_BXG.shape[0]
        if B > 1:
            own_B = torch.arange(B, device=keys_BXG.device) * self.n_keys
            keys_BXG = keys_BXG + own_B.view(B, 1, 1)
        return keys_BXG.flatten(0, 1)


def _match(place: Tensor, places: int, weights_BLW: Tensor, age_days_BL: Tensor) -> Tensor:
    """Features of every place that interactions meet at, float32 [places + 1, T]."""
    B, L, W = weights_BLW.shape
    groupings, size, device = place.shape[0] // max(B * L, 1), places + 1, place.device
    weights = weights_BLW.expand(groupings, B, L, W).reshape(-1, W)
    counts = torch.zeros(size, W, device=device, dtype=weights.dtype).index_add_(0, place, weights)
    ages = age_days_BL.expand(groupings, B, L).flatten()
    newest = torch.full([size], torch.inf, device=device, dtype=ages.dtype)
    newest = newest.scatter_reduce_(0, place, ages, "amin")
    oldest = torch.zeros(size, device=device, dtype=ages.dtype)
    oldest = oldest.scatter_reduce_(0, place, ages, "amax")
    count = counts[:, -1]
    newest = newest.masked_fill_(count == 0, 0.0)
    gap = (oldest - newest) / (count - 1).clamp_(min=1)
    last = newest.log1p()
    due = (last - gap.log1p_()).masked_fill_(count < 1.5, 0.0)
    timing = torch.stack([count.clamp(max=1), last, due], dim=1)
    return torch.cat([counts.log1p(), timing], dim=1)
