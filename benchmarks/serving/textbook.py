"""The ranker as a textbook writes it, with the weights of a trained one: what ours is held to.

Each pair of a candidate and an interaction is a concatenation [q, k, q - k, q * k] that goes
through the attention's layers, and each candidate is a concatenation of everything that is known,
the request's part repeated, that goes through the deep ones. The scores are those of the trained
module.

Legend: B requests, N candidates, L history length, A attention width, F item fields.
"""

import copy

import torch
from torch import Tensor, nn

from training.models.din import DeepInterestNetwork, TargetAttention


class TextbookAttention(nn.Module):
    """Layers over the concatenation of every candidate with every interaction."""

    def __init__(self, trained: TargetAttention) -> None:
        """Take over trained weights."""
        super().__init__()
        H, A = trained.query_HA.shape
        self.pair = nn.Linear(4 * A, H)
        nothing_HA = torch.zeros(H, A)
        parts = [trained.query_HA, trained.key_HA, nothing_HA, trained.product_HA]
        self.pair.weight = nn.Parameter(torch.cat([part.detach() for part in parts], dim=1))
        self.pair.bias = nn.Parameter(trained.bias_H.detach().clone())
        self.out = copy.deepcopy(trained.out)

    def forward(self, query_BNA: Tensor, keys_BLA: Tensor, valid_BL: Tensor) -> Tensor:
        """Attend from candidates to histories, float [B, N, A]."""
        L, N = keys_BLA.shape[1], query_BNA.shape[1]
        query_BNLA = query_BNA.unsqueeze(2).expand(-1, -1, L, -1)
        keys_BNLA = keys_BLA.unsqueeze(1).expand(-1, N, -1, -1)
        pairs = [query_BNLA, keys_BNLA, query_BNLA - keys_BNLA, query_BNLA * keys_BNLA]
        weights_BNL = self.out(self.pair(torch.cat(pairs, dim=3)).relu()).squeeze(3)
        weights_BNL = weights_BNL.masked_fill(~valid_BL.unsqueeze(1), 0.0)
        attended_BNA: Tensor = weights_BNL @ keys_BLA / L**0.5
        return attended_BNA


class TextbookDin(nn.Module):
    """A ranker that scores as a trained one does."""

    def __init__(self, trained: DeepInterestNetwork, *, matching: bool) -> None:
        """Take over trained weights.

        Args:
            trained: stays as it is.
            matching: also say how often and how recently a candidate stands in the history, which
                DIN as published does not. Without it scores are different ones.
        """
        super().__init__()
        kept = copy.deepcopy(trained)
        self.matching = matching
        self.attention_length, self.width = kept.attention_length, kept.width
        self.items, self.request, self.match = kept.items, kept.request, kept.match
        self.interest, self.wide, self.item_bias = kept.interest, kept.wide, kept.item_bias
        self.attention = TextbookAttention(kept.attention)
        project = kept.items.project
        self.query = nn.Linear(project.in_features, self.width)
        self.query.weight = nn.Parameter(project.weight[: self.width].detach())
        self.query.bias = nn.Parameter(project.bias[: self.width].detach())
        parts = [
            kept.deep_request.weight,
            kept.deep_pair.weight,
            project.weight[self.width :],
        ]
        first = nn.Linear(sum(part.shape[1] for part in parts), len(parts[0]))
        first.weight = nn.Parameter(torch.cat([part.detach() for part in parts], dim=1))
        first.bias = nn.Parameter(project.bias[self.width :].detach())
        self.deep = nn.Sequential(first, *kept.deep)

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
        length = min(self.attention_length, history_rows_BL.shape[1])
        item_BNE = self._embedded(rows_BN)
        query_BNA = self.query(item_BNE)
        keys_BLA = self.query(self._embedded(history_rows_BL[:, :length]))
        valid_BL = torch.arange(length, device=rows_BN.device) < history_len_B.unsqueeze(1)
        attended_BNA = self.attention(query_BNA, keys_BLA, valid_BL)
        request_BR = self.request(user_BU, context_BC, history_age_days_BL, history_len_B)
        snapshot_BNV = self.items.snapshot(rows_BN, snapshot_B)
        if self.matching:
            match_BNM = self.match(history_rows_BL, history_age_days_BL, history_len_B, rows_BN)
        else:
            match_BNM = snapshot_BNV.new_zeros(1).expand(
                rows_BN.shape[0], rows_BN.shape[1], self.match.width
            )
        dense_BNX = torch.cat([match_BNM, snapshot_BNV], dim=2)
        known = [
            request_BR.unsqueeze(1).expand(-1, rows_BN.shape[1], -1),
            dense_BNX,
            attended_BNA,
            query_BNA @ self.interest(request_BR).unsqueeze(2),
            (query_BNA * attended_BNA).sum(2, keepdim=True),
            item_BNE,
        ]
        deep_BN1 = self.deep(torch.cat(known, dim=2))
        logits_BN1: Tensor = self.wide(dense_BNX) + deep_BN1 + self.item_bias(rows_BN)
        return logits_BN1.squeeze(2)

    def _embedded(self, rows: Tensor) -> Tensor:
        """Id and fields, float [..., E]."""
        fields = self.items.field_embedding(self.items.fields_IF[rows])
        return torch.cat([self.items.ids(rows), fields], dim=-1)
