"""Two-tower retrieval as it is served: an item's vector is looked up.

Legend: B requests, N candidates or rows, L history length, R item rows, E pooled width,
D tower output, W decay windows.
"""

import copy

import torch
from torch import Tensor, nn

from training.models.served.item_rows import (
    CHUNK_ROWS,
    ItemRows,
    check_rows,
    known_items,
    snapshot_values,
)
from training.models.two_tower import TwoTower

ITEM_TABLES = ("vectors_RD", "pasts_RE", "rows.ids_RE")
"""Buffers with a row an item."""


class ServedTwoTower(nn.Module):
    """Scores, encodes requests and items, and learns of new ones, as the trained stage would."""

    def __init__(self, trained: TwoTower, spare_rows: int) -> None:
        """Take over a trained stage, which stays as it is, and fill the item tables."""
        super().__init__()
        self.width = trained.width
        self.pool_length = trained.pool_length
        self.rows = ItemRows(trained.items, spare_rows)
        bias = trained.snapshot_bias.weight.detach().clone()
        self.register_buffer("snapshot_bias_1V", bias)
        self.snapshot_bias_1V: Tensor
        self.request = copy.deepcopy(trained.request).requires_grad_(False)
        self.user_tower = copy.deepcopy(trained.user_tower).requires_grad_(False)
        self.register_buffer("rates_W", trained.rates_W.clone())
        self.rates_W: Tensor
        fields_RF, values_RV = known_items(trained.items, spare_rows)
        self.register_buffer("vectors_RD", torch.empty(len(fields_RF), self.width + 1))
        self.vectors_RD: Tensor
        self.register_buffer("pasts_RE", torch.empty(len(fields_RF), self.width))
        self.pasts_RE: Tensor
        for rows_N in torch.arange(len(fields_RF)).split(CHUNK_ROWS):
            self._write(rows_N, fields_RF[rows_N], values_RV[rows_N])

    @torch.jit.export
    def put_items(
        self, rows_N: Tensor, fields_NF: Tensor, price_N: Tensor, popularity_N: Tensor
    ) -> None:
        """Write what is known of items into their rows.

        Args:
            rows_N: int64 [N], spare rows or those of known items.
            fields_NF: int64 [N, F], index of each item field.
            price_N: float32 [N], currency units; 0 where no price is known.
            popularity_N: float32 [N], interactions in the window before.

        Raises:
            ValueError: a row is that of the unknown item, or none of the tables'.
        """
        check_rows(rows_N, self.vectors_RD.shape[0])
        self._write(rows_N, fields_NF, snapshot_values(price_N, popularity_N))

    def _write(self, rows_N: Tensor, fields_NF: Tensor, values_NV: Tensor) -> None:
        items_NX = self.rows(rows_N, fields_NF)
        bias_N1 = items_NX[:, -1:] + nn.functional.linear(values_NV, self.snapshot_bias_1V)
        self.vectors_RD[rows_N] = torch.cat([items_NX[:, : self.width], bias_N1], dim=1)
        self.pasts_RE[rows_N] = items_NX[:, self.width : 2 * self.width]

    @torch.jit.export
    def encode_items(self, rows_N: Tensor) -> Tensor:
        """Vectors of the items in these rows, float [N, D]."""
        return self.vectors_RD.index_select(0, rows_N)

    @torch.jit.export
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
        valid_BL = torch.arange(length, device=history_rows_BL.device) < history_len_B.unsqueeze(1)
        ages_BL = history_age_days_BL[:, :length]
        weights_BLW = torch.exp(-ages_BL.unsqueeze(2) * self.rates_W) * valid_BL.unsqueeze(2)
        weights_BLW = weights_BLW / (weights_BLW.sum(1, keepdim=True) + 1.0)
        past_BLE = nn.functional.embedding(history_rows_BL[:, :length], self.pasts_RE)
        pooled_BWE = weights_BLW.transpose(1, 2) @ past_BLE
        user_BD = self.user_tower(torch.cat([request_BR, pooled_BWE.flatten(1)], dim=1))
        return torch.cat([user_BD, torch.ones_like(user_BD[:, :1])], dim=1)

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
        items_BND = nn.functional.embedding(rows_BN, self.vectors_RD)
        return (items_BND @ user_BD.unsqueeze(2)).squeeze(2)
