"""Deep interest network: each candidate attends to the history (Zhou et al. 2018).

The first attention layer is linear in (q, k, q * k), where q is the candidate and k an interaction,
so its weights fold into one matrix a request: [N, A] x [A, L * H], and the N x L x 3A concatenation
is never made.

Legend: B requests, N candidates, L history length, A attention width, H attention units.
"""

import torch
from torch import Tensor, nn

from training.features import FeatureSchema
from training.models.history import HistoryMatch
from training.models.item import SNAPSHOT_VALUES, ItemCatalogue, ItemFeatures
from training.models.request import RequestEmbedding


class TargetAttention(nn.Module):
    """Weighted sum of the history, with weights that depend on the candidate."""

    def __init__(self, width: int, units: int) -> None:
        """Make `units` hidden units over vectors of `width` columns."""
        super().__init__()
        scale = width**-0.5
        self.query_HA = nn.Parameter(torch.randn(units, width) * scale)
        self.key_HA = nn.Parameter(torch.randn(units, width) * scale)
        self.product_HA = nn.Parameter(torch.randn(units, width) * scale)
        self.bias_H = nn.Parameter(torch.zeros(units))
        self.out = nn.Linear(units, 1)

    def forward(self, query_BNA: Tensor, keys_BLA: Tensor, valid_BL: Tensor) -> Tensor:
        """Attend from candidates to histories.

        Args:
            query_BNA: float [B, N, A].
            keys_BLA: float [B, L, A].
            valid_BL: bool [B, L].

        Returns:
            float [B, N, A]: sum over L of weight * key; weights are not normalised, as published.
        """
        B, N, A = query_BNA.shape
        L, H = keys_BLA.shape[1], self.bias_H.shape[0]
        folded_BKA = (self.query_HA + self.product_HA * keys_BLA.unsqueeze(2)).view(B, L * H, A)
        offset_B1K = (keys_BLA @ self.key_HA.t() + self.bias_H).view(B, 1, L * H)
        hidden_BNK = torch.baddbmm(offset_B1K, query_BNA, folded_BKA.transpose(1, 2)).relu()
        weights_BNL = self.out(hidden_BNK.view(B, N, L, H)).squeeze(3)
        weights_BNL = weights_BNL * valid_BL.unsqueeze(1)
        attended_BNA: Tensor = weights_BNL @ keys_BLA / L**0.5
        return attended_BNA


class DeepInterestNetwork(nn.Module):
    """Ranks candidates by history match, target attention, price, popularity and fields."""

    def __init__(
        self,
        schema: FeatureSchema,
        catalogue: ItemCatalogue,
        width: int,
        hidden: tuple[int, int],
        attention_units: int,
        attention_length: int,
        field_width: int = 8,
    ) -> None:
        """Make a ranker with `width` columns an item id and two hidden layers."""
        super().__init__()
        self.attention_length = attention_length
        self.width = width
        # Columns: query and key of the attention, and the item's share of the first deep layer.
        self.items = ItemFeatures(catalogue, width, field_width, width + hidden[0])
        self.request = RequestEmbedding(schema, field_width)
        own_I = torch.arange(len(catalogue.fields_IF))
        self.match = HistoryMatch(torch.stack([own_I, *catalogue.fields_IF.t()[:2]]))
        self.attention = TargetAttention(width, attention_units)
        self.interest = nn.Linear(self.request.width, width)
        dense = self.match.width + SNAPSHOT_VALUES
        self.wide = nn.Linear(dense, 1)
        # The first deep layer is a sum over its inputs, so the request's share is made once.
        self.deep_request = nn.Linear(self.request.width, hidden[0], bias=False)
        self.deep_pair = nn.Linear(dense + width + 2, hidden[0], bias=False)
        self.deep = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden[0], hidden[1]), nn.ReLU(), nn.Linear(hidden[1], 1)
        )
        self.item_bias = nn.Embedding(len(catalogue.fields_IF), 1)
        nn.init.zeros_(self.item_bias.weight)

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
        match_BNM = self.match(history_rows_BL, history_age_days_BL, history_len_B, rows_BN)
        dense_BNX = torch.cat([match_BNM, self.items.snapshot(rows_BN, snapshot_B)], dim=2)
        items_BNX = self.items(rows_BN)
        query_BNA, deep_item_BNH = items_BNX[:, :, : self.width], items_BNX[:, :, self.width :]
        request_BR = self.request(user_BU, context_BC, history_age_days_BL, history_len_B)

        length = min(self.attention_length, history_rows_BL.shape[1])
        keys_BLA = self.items(history_rows_BL[:, :length])[:, :, : self.width]
        valid_BL = torch.arange(length, device=rows_BN.device) < history_len_B.unsqueeze(1)
        attended_BNA = self.attention(query_BNA, keys_BLA, valid_BL)

        affinity_BN1 = query_BNA @ self.interest(request_BR).unsqueeze(2)
        similarity_BN1 = (query_BNA * attended_BNA).sum(2, keepdim=True)
        pair_BNX = torch.cat([dense_BNX, attended_BNA, affinity_BN1, similarity_BN1], dim=2)
        hidden_BNH = self.deep_pair(pair_BNX) + deep_item_BNH
        hidden_BNH = hidden_BNH + self.deep_request(request_BR).unsqueeze(1)
        logits_BN1: Tensor = self.wide(dense_BNX) + self.deep(hidden_BNH) + self.item_bias(rows_BN)
        return logits_BN1.squeeze(2)
