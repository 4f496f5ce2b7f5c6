"""DSSM: a tower for requests, a tower for items, and their dot product.

Legend: B requests, S slots, N candidates, P items of the pool, D width of a field, E width of a
tower's answer.
"""

import torch
from torch import Generator, Tensor, nn

from training.recflow.batches import Batch
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS
from training.recflow.models.candidates import pick
from training.recflow.models.fields import (
    embed_history,
    embed_pool,
    embed_requests,
    make_embedding,
    mean_history,
)
from training.recflow.models.perceptron import Perceptron


class DSSM(nn.Module):
    """Two towers, as published for LCRON and DFTopK (arXiv 2503.09492, 2510.11472).

    Request fields and the mean of the history pass 104-128-64-32, item fields 64-128-64-32. Not as
    published: the padding of a history adds nothing to its sum, and category one has ids of its own
    for padding. An item is encoded once, however many requests have it as a candidate.
    """

    def __init__(
        self,
        vocabularies: dict[str, int],
        width: int,
        units: int,
        dtype: torch.dtype,
        generator: Generator,
    ) -> None:
        """Make towers of `units`, `units / 2` and `units / 4` over fields of `width` columns."""
        super().__init__()
        self.embedding = make_embedding(vocabularies, width, generator)
        request_width = width * (len(REQUEST_FIELDS) + len(HISTORY_FIELDS))
        layers = (units, units // 2, units // 4)
        self.request_tower = Perceptron((request_width, *layers), dtype)
        self.item_tower = Perceptron((width * len(ITEM_FIELDS), *layers), dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the candidates, float [B, N]."""
        mean_BX = mean_history(embed_history(self.embedding, batch), batch)
        request_BX = torch.cat([embed_requests(self.embedding, batch), mean_BX], dim=1)
        request_BE = self.request_tower([(request_BX, 0)])
        item_PE = self.item_tower([(embed_pool(self.embedding, batch), 0)])
        item_BNE = pick(item_PE, batch)
        # A batched matrix product of such small matrices takes five times as long backward.
        scores_BN: Tensor = torch.linalg.vecdot(item_BNE, request_BE.unsqueeze(1))
        return scores_BN
