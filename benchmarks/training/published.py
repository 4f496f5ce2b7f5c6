"""The stages as they were published, written plainly: what the speed of training is compared with.

As arXiv 2503.09492 and 2510.11472 describe them: a table a field, every candidate with a copy of
its request and of its history, one concatenation, dense layers over it. Gradients are dense, and
Adam updates every row of every table in every step.

Legend: B requests, N candidates, L history length, F fields, X columns.
"""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.recflow.batches import Batch
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS

WIDTH, UNITS, ATTENTION = 8, 128, 80
MASKED = -(2.0**30)


class Tables(nn.Module):
    """One dense table a field."""

    def __init__(self, vocabularies: Mapping[str, int]) -> None:
        """Make tables of `WIDTH` columns over rows of `vocabularies`."""
        super().__init__()
        names = dict.fromkeys([*REQUEST_FIELDS, *ITEM_FIELDS])
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(vocabularies[name], WIDTH, padding_idx=0) for name in names}
        )

    def forward(self, rows_XF: Tensor, names: Sequence[str]) -> Tensor:
        """Float [..., F * WIDTH]."""
        columns = zip(rows_XF.unbind(-1), names, strict=True)
        return torch.cat([self.tables[name](rows) for rows, name in columns], -1)


class PublishedDSSM(nn.Module):
    """Two towers and their dot product."""

    def __init__(self, vocabularies: Mapping[str, int]) -> None:
        """Make both towers."""
        super().__init__()
        self.tables = Tables(vocabularies)
        request_width = WIDTH * (len(REQUEST_FIELDS) + len(HISTORY_FIELDS))
        self.request = dense(request_width, UNITS, UNITS // 2, UNITS // 4)
        self.item = dense(WIDTH * len(ITEM_FIELDS), UNITS, UNITS // 2, UNITS // 4)

    def forward(self, batch: Batch) -> Tensor:
        """Scores, float [B, N]."""
        history_BLX = self.tables(batch.history_BLF, HISTORY_FIELDS)
        count_B1 = batch.history_mask_BL.sum(1, keepdim=True).clamp(min=1)
        request_BX = self.tables(batch.fields_BF, REQUEST_FIELDS)
        request_BE = self.request(torch.cat([request_BX, history_BLX.sum(1) / count_B1], 1))
        item_BNE = self.item(self.tables(batch.pool_PF[batch.picks_BN], ITEM_FIELDS))
        scores_BN: Tensor = (item_BNE @ request_BE.unsqueeze(2)).squeeze(2)
        return scores_BN


class PublishedDIN(nn.Module):
    """Target attention on the concatenation of every behaviour with every candidate."""

    def __init__(self, vocabularies: Mapping[str, int]) -> None:
        """Make attention and layers."""
        super().__init__()
        self.tables = Tables(vocabularies)
        self.attention = dense(2 * WIDTH * len(HISTORY_FIELDS), ATTENTION, 1)
        fields = len(REQUEST_FIELDS) + len(HISTORY_FIELDS) + len(ITEM_FIELDS)
        self.layers = dense(WIDTH * fields, UNITS, UNITS, UNITS // 4, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Scores, float [B, N]."""
        history_BLX = self.tables(batch.history_BLF, HISTORY_FIELDS)
        item_BNX = self.tables(batch.pool_PF[batch.picks_BN], ITEM_FIELDS)
        N, (L, X) = item_BNX.shape[1], history_BLX.shape[1:]
        history_BNLX = history_BLX.unsqueeze(1).expand(-1, N, -1, -1)
        target_BNLX = item_BNX[..., :X].unsqueeze(2).expand(-1, -1, L, -1)
        logits_BNL = self.attention(torch.cat([history_BNLX, target_BNLX], 3)).squeeze(3)
        weight_BNL = logits_BNL.masked_fill(~batch.history_mask_BL.unsqueeze(1), MASKED).softmax(2)
        interest_BNX = weight_BNL @ history_BLX
        request_BNX = self.tables(batch.fields_BF, REQUEST_FIELDS).unsqueeze(1).expand(-1, N, -1)
        scores_BN1: Tensor = self.layers(torch.cat([request_BNX, interest_BNX, item_BNX], 2))
        return scores_BN1.squeeze(2)


def dense(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for below, above in itertools.pairwise(widths):
        layers += [nn.Linear(below, above), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
