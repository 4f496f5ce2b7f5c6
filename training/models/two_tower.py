"""Two-tower retrieval: a request and an item meet only in a dot product (DSSM, Huang et al. 2013).

Legend: B requests, N candidates, L history length, I items, E pooled width, D tower output.
"""

import torch
from torch import Tensor, nn

from training.features import FeatureSchema
from training.models.history import WINDOWS_DAYS
from training.models.item import SNAPSHOT_VALUES, ItemCatalogue, ItemFeatures
from training.models.request import RequestEmbedding


class TwoTower(nn.Module):
    """Scores candidates by the dot product of a request's and an item's vector.

    The last column of the vectors carries the item's bias: 1 on the request's side.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        catalogue: ItemCatalogue,
        width: int,
        field_width: int = 8,
        pool_length: int = 100,
    ) -> None:
        """Make towers of `width` columns; the newest `pool_length` interactions are pooled."""
        super().__init__()
        self.pool_length = pool_length
        self.width = width
        # Columns: the item's vector, what it adds to a pooled history, its bias.
        self.items = ItemFeatures(catalogue, width, field_width, 2 * width + 1)
        self.request = RequestEmbedding(schema, field_width)
        self.register_buffer("rates_W", torch.tensor([1 / days for days in WINDOWS_DAYS[1:3]]))
        self.rates_W: Tensor
        pooled = len(self.rates_W) * width
        self.user_tower = nn.Sequential(
            nn.Linear(self.request.width + pooled, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, width),
        )
        self.snapshot_bias = nn.Linear(SNAPSHOT_VALUES, 1, bias=False)

    def encode_user(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """Vectors of requests, float [B, D]."""
        request_BR = self.request(user_BU, context_BC, history_age_days_BL, history_len_B)
        length = min(self.pool_length, history_rows_BL.shape[1])
        rows_BL = history_rows_BL[:, :length]
        valid_BL = torch.arange(length, device=rows_BL.device) < history_len_B.unsqueeze(1)
        weights_BLW = torch.exp(-history_age_days_BL[:, :length].unsqueeze(2) * self.rates_W)
        weights_BLW = weights_BLW * valid_BL.unsqueeze(2)
        weights_BLW = weights_BLW / (weights_BLW.sum(1, keepdim=True) + 1.0)
        past_BLE = self.items(rows_BL)[:, :, self.width : 2 * self.width]
        pooled_BWE = weights_BLW.transpose(1, 2) @ past_BLE
        user_BD = self.user_tower(torch.cat([request_BR, pooled_BWE.flatten(1)], dim=1))
        return torch.cat([user_BD, torch.ones_like(user_BD[:, :1])], dim=1)

    def _items_at(self, rows_BN: Tensor, snapshot_B: Tensor) -> Tensor:
        items_BNX = self.items(rows_BN)
        bias_BN1 = self.snapshot_bias(self.items.snapshot(rows_BN, snapshot_B))
        return torch.cat([items_BNX[:, :, : self.width], items_BNX[:, :, -1:] + bias_BN1], dim=2)

    def encode_items(self) -> Tensor:
        """Vectors of all items but the unknown one, at the newest snapshot: float [I, D]."""
        rows_1I = torch.arange(1, self.items.fields_IF.shape[0], device=self.rates_W.device)
        newest_1 = torch.tensor([self.items.snapshots_SIX.shape[0] - 1], device=self.rates_W.device)
        return self._items_at(rows_1I.unsqueeze(0), newest_1)[0]

    def score_items(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,
    ) -> Tensor:
        """Logits of all items but the unknown one, each request at its snapshot: float [B, I]."""
        user_BD = self.encode_user(
            user_BU, context_BC, history_rows_BL, history_age_days_BL, history_len_B, snapshot_B
        )
        rows_I = torch.arange(1, self.items.fields_IF.shape[0], device=self.rates_W.device)
        items_IX = self.items(rows_I)
        bias_SI = self.snapshot_bias(self.items.snapshots_SIX[:, 1:]).squeeze(2) + items_IX[:, -1]
        logits_BI: Tensor = user_BD[:, :-1] @ items_IX[:, : self.width].t() + bias_SI[snapshot_B]
        return logits_BI

    def forward(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,
        rows_BN: Tensor,
    ) -> Tensor:
        """Logits of candidates, float [B, N]."""
        user_BD = self.encode_user(
            user_BU, context_BC, history_rows_BL, history_age_days_BL, history_len_B, snapshot_B
        )
        return (self._items_at(rows_BN, snapshot_B) @ user_BD.unsqueeze(2)).squeeze(2)
