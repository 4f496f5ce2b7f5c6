"""MLP: one perceptron over request, mean of the history, and item.

Legend: B requests, N candidates, P items of the pool, H units.
"""

import torch
from torch import Generator, Tensor, nn

from training.recflow.batches import Batch
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS
from training.recflow.models.candidates import in_order
from training.recflow.models.fields import (
    embed_history,
    embed_pool,
    embed_requests,
    make_embedding,
    mean_history,
)
from training.recflow.models.perceptron import Perceptron, Shared


class MLP(nn.Module):
    """Perceptron 168-128-64-32-1, as published for LCRON (arXiv 2503.09492).

    Not as published: the padding of a history adds nothing to its sum, and category one has ids of
    its own for padding.
    """

    def __init__(
        self,
        vocabularies: dict[str, int],
        width: int,
        units: int,
        dtype: torch.dtype,
        generator: Generator,
    ) -> None:
        """Make layers of `units`, `units / 2` and `units / 4` over fields of `width` columns."""
        super().__init__()
        self.embedding = make_embedding(vocabularies, width, generator)
        self.request_width = width * (len(REQUEST_FIELDS) + len(HISTORY_FIELDS))
        inputs = self.request_width + width * len(ITEM_FIELDS)
        self.perceptron = Perceptron((inputs, units, units // 2, units // 4, 1), dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the candidates, float [B, N]."""
        mean_BX = mean_history(embed_history(self.embedding, batch), batch)
        request_BX = torch.cat([embed_requests(self.embedding, batch), mean_BX], dim=1)
        request_BH = self.perceptron.part(request_BX, 0, bias=True)
        item_PX = embed_pool(self.embedding, batch)
        if in_order(batch):
            inputs, shared = [(item_PX, self.request_width)], Shared(request_BH)
        else:
            item_PH = self.perceptron.part(item_PX, self.request_width)
            inputs, shared = [], Shared(request_BH, item_PH, batch.picks_BN.flatten())
        scores_BN: Tensor = self.perceptron(inputs, shared).view(batch.picks_BN.shape)
        return scores_BN
