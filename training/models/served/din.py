"""Deep interest network as it is served: what an item adds to the first deep layer is looked up.

Legend: B requests, N candidates or rows, L history length, R item rows, A attention width,
H attention units, D columns of the first deep layer and one for the wide part, F item fields,
M match features, V snapshot values, W decay windows and the count.
"""

import copy

import torch
from torch import Tensor, nn

from training.models.din import DeepInterestNetwork, TargetAttention
from training.models.history import WINDOWS_DAYS
from training.models.item import SNAPSHOT_VALUES
from training.models.served.history import ServedHistoryMatch
from training.models.served.item_rows import (
    CHUNK_ROWS,
    ItemRows,
    check_rows,
    known_items,
    snapshot_values,
    with_spare_rows,
)

ITEM_TABLES = ("query_RA", "first_RD", "bias_R", "match.keys_RG", "rows.ids_RE")
"""Buffers with a row an item."""


class ServedAttention(nn.Module):
    """The scores of `TargetAttention`, laid out so that every product runs along candidates."""

    def __init__(self, trained: TargetAttention) -> None:
        """Take over trained weights."""
        super().__init__()
        for name in ("query_HA", "key_HA", "product_HA", "bias_H"):
            self.register_buffer(name, trained.get_parameter(name).detach().clone())
        self.query_HA: Tensor
        self.key_HA: Tensor
        self.product_HA: Tensor
        self.bias_H: Tensor
        self.register_buffer("out_1H", trained.out.weight.detach().clone())
        self.out_1H: Tensor
        self.register_buffer("out_bias_1", trained.out.bias.detach().clone())
        self.out_bias_1: Tensor

    def forward(
        self, query_BNA: Tensor, keys_BLA: Tensor, valid_BL: Tensor | None, length: int
    ) -> Tensor:
        """Attend from candidates to histories.

        Args:
            query_BNA: float [B, N, A].
            keys_BLA: float [B, L, A].
            valid_BL: bool [B, L], None where nothing is padding.
            length: of the history with its padding, by whose root the sum is divided.

        Returns:
            float [B, N, A]: sum over L of weight * key.
        """
        B, N, A = query_BNA.shape
        L, H = keys_BLA.shape[1], self.bias_H.shape[0]
        product_BHLA = self.product_HA.unsqueeze(1) * keys_BLA.unsqueeze(1)
        folded_BKA = (product_BHLA + self.query_HA.unsqueeze(1)).view(B, H * L, A)
        offset_BHL = self.key_HA @ keys_BLA.transpose(1, 2) + self.bias_H.unsqueeze(1)
        hidden_BKN = torch.bmm(folded_BKA, query_BNA.transpose(1, 2))
        hidden_BKN = hidden_BKN.add_(offset_BHL.view(B, H * L, 1)).relu_()
        weights_BLN = (self.out_1H @ hidden_BKN.view(B, H, L * N)).view(B, L, N)
        weights_BLN = weights_BLN.add_(self.out_bias_1)
        if valid_BL is not None:
            weights_BLN = weights_BLN * valid_BL.unsqueeze(2)
        attended_BNA: Tensor = weights_BLN.transpose(1, 2) @ (keys_BLA / length**0.5)
        return attended_BNA


class ServedDeepInterestNetwork(nn.Module):
    """Scores, and learns of new items, as the trained stage would."""

    def __init__(self, trained: DeepInterestNetwork, spare_rows: int) -> None:
        """Take over a trained stage, which stays as it is, and fill the item tables."""
        super().__init__()
        self.width = trained.width
        self.attention_length = trained.attention_length
        self.rows = ItemRows(trained.items, spare_rows)
        self.request = copy.deepcopy(trained.request).requires_grad_(False)
        embedding = trained.items.field_embedding
        self.match = ServedHistoryMatch(trained.match, embedding, spare_rows)
        self.attention = ServedAttention(trained.attention)
        self.interest = copy.deepcopy(trained.interest).requires_grad_(False)
        self.deep = copy.deepcopy(trained.deep[1:]).requires_grad_(False)
        self._split_first_layer(trained)
        bias_R = with_spare_rows(trained.item_bias.weight[:, 0], spare_rows)
        self.register_buffer("bias_R", bias_R + trained.wide.bias.detach())
        self.bias_R: Tensor
        fields_RF, values_RV = known_items(trained.items, spare_rows)
        self.register_buffer("query_RA", torch.empty(len(fields_RF), self.width))
        self.query_RA: Tensor
        self.register_buffer("first_RD", torch.empty(len(fields_RF), len(self.pair_DP)))
        self.first_RD: Tensor
        for rows_N in torch.arange(len(fields_RF)).split(CHUNK_ROWS):
            self._write(rows_N, fields_RF[rows_N], values_RV[rows_N])

    def _split_first_layer(self, trained: DeepInterestNetwork) -> None:
        """Split the first deep layer, and the wide part below it, by what their inputs depend on.

        What was one column of match, snapshot and interest features is the request's, the item's
        or the pair's.
        """
        deep_HX, wide_1X = trained.deep_pair.weight.detach(), trained.wide.weight.detach()
        columns_DX = torch.cat([deep_HX, nn.functional.pad(wide_1X, (0, trained.width + 2))])
        totals, pairs = len(WINDOWS_DAYS) + 1, trained.match.width
        rest = pairs + SNAPSHOT_VALUES
        request_DR = nn.functional.pad(trained.deep_request.weight.detach(), (0, 0, 0, 1))
        request_DY = torch.cat([request_DR, columns_DX[:, :totals]], dim=1)
        self.register_buffer("request_DY", request_DY)
        self.request_DY: Tensor
        self.register_buffer("snapshot_DV", columns_DX[:, pairs:rest].clone())
        self.snapshot_DV: Tensor
        pair_DP = torch.cat([columns_DX[:, totals:pairs], columns_DX[:, rest:]], dim=1)
        self.register_buffer("pair_DP", pair_DP)
        self.pair_DP: Tensor

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
        check_rows(rows_N, self.query_RA.shape[0])
        self._write(rows_N, fields_NF, snapshot_values(price_N, popularity_N))
        self.match.put_groups(rows_N, fields_NF)

    def _write(self, rows_N: Tensor, fields_NF: Tensor, values_NV: Tensor) -> None:
        items_NX = self.rows(rows_N, fields_NF)
        self.query_RA[rows_N] = items_NX[:, : self.width]
        first_ND = torch.cat([items_NX[:, self.width :], self.bias_R[rows_N].unsqueeze(1)], dim=1)
        self.first_RD[rows_N] = first_ND + nn.functional.linear(values_NV, self.snapshot_DV)

    def forward(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
        snapshot_B: Tensor,  # noqa: ARG002
        rows_BN: Tensor,
    ) -> Tensor:
        """Logits of candidates, float [B, N]."""
        length = min(self.attention_length, history_rows_BL.shape[1])
        request_BR = self.request(user_BU, context_BC, history_age_days_BL, history_len_B)
        if rows_BN.is_cuda:
            places_L = torch.arange(history_rows_BL.shape[1], device=rows_BN.device)
            valid_BL = places_L < history_len_B.unsqueeze(1)
            return self.scores(
                request_BR, history_rows_BL, history_age_days_BL, valid_BL, rows_BN, length
            )
        # One by one, and each as long as it is: what is made for a request stays in a core's cache.
        logits = []
        for b in range(rows_BN.shape[0]):
            filled = int(history_len_B[b])
            rows_1L = history_rows_BL[b : b + 1, :filled]
            ages_1L = history_age_days_BL[b : b + 1, :filled]
            one_1R, rows_1N = request_BR[b : b + 1], rows_BN[b : b + 1]
            logits.append(self.scores(one_1R, rows_1L, ages_1L, None, rows_1N, length))
        return torch.cat(logits)

    def scores(
        self,
        request_BR: Tensor,
        history_rows_BL: Tensor,
        history_age_days_BL: Tensor,
        valid_BL: Tensor | None,
        rows_BN: Tensor,
        length: int,
    ) -> Tensor:
        """Logits of candidates, all requests at once.

        Args:
            request_BR: what `request` made of them.
            history_rows_BL: int64 [B, L].
            history_age_days_BL: float32 [B, L].
            valid_BL: bool [B, L], None where nothing is padding.
            rows_BN: int64 [B, N].
            length: places of the history that are attended to, padding included.

        Returns:
            float32 [B, N]
        """
        totals_BW, match_BNX = self.match(history_rows_BL, history_age_days_BL, valid_BL, rows_BN)
        query_BNA = nn.functional.embedding(rows_BN, self.query_RA)
        keys_BLA = nn.functional.embedding(history_rows_BL[:, :length], self.query_RA)
        valid_BL = None if valid_BL is None else valid_BL[:, :length]
        attended_BNA = self.attention(query_BNA, keys_BLA, valid_BL, length)
        affinity_BN1 = query_BNA @ self.interest(request_BR).unsqueeze(2)
        similarity_BN1 = (query_BNA * attended_BNA).sum(2, keepdim=True)
        pair_BNP = torch.cat([match_BNX, attended_BNA, affinity_BN1, similarity_BN1], dim=2)
        request_BY = torch.cat([request_BR, totals_BW], dim=1)
        first_BND = nn.functional.embedding(rows_BN, self.first_RD)
        first_BND += nn.functional.linear(request_BY, self.request_DY).unsqueeze(1)
        first_XD = first_BND.flatten(0, 1).addmm_(pair_BNP.flatten(0, 1), self.pair_DP.t())
        logits_X1: Tensor = self.deep(first_XD[:, :-1].relu()) + first_XD[:, -1:]
        return logits_X1.view(rows_BN.shape)
