"""DIN: each candidate attends to the history (Zhou et al. 2018, arXiv 1706.06978).

Legend: B requests, N candidates, L history length, P items of the pool, D interest width, A units
of the attention, H units.
"""

import torch
from torch import Generator, Tensor, nn

from training.kernels.attention import target_attention
from training.recflow.batches import Batch
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS
from training.recflow.models.candidates import in_order
from training.recflow.models.fields import (
    embed_history,
    embed_pool,
    embed_requests,
    make_embedding,
)
from training.recflow.models.perceptron import Perceptron, Shared, product

ATTENTION_UNITS = 80


class DIN(nn.Module):
    """Target attention 80-1 and a perceptron 168-128-128-32-1.

    As published for LCRON and DFTopK (arXiv 2503.09492, 2510.11472): attention compares the five
    fields of a behaviour with the same five of the candidate and is a softmax over the behaviours.
    Not as published: a request without behaviours has an interest of zeros instead of the mean of
    its padding, category one has ids of its own for padding, and the bias behind the attention's
    weights, which cancels in the softmax, is left out.
    """

    def __init__(
        self,
        vocabularies: dict[str, int],
        width: int,
        units: int,
        dtype: torch.dtype,
        generator: Generator,
    ) -> None:
        """Make layers of `units`, `units` and `units / 4` over fields of `width` columns."""
        super().__init__()
        self.dtype = dtype
        self.embedding = make_embedding(vocabularies, width, generator)
        self.request_width = width * len(REQUEST_FIELDS)
        self.interest_width = width * len(HISTORY_FIELDS)
        # Columns as published: the behaviour, then the candidate.
        self.attention = nn.Linear(2 * self.interest_width, ATTENTION_UNITS)
        self.attention_weight_A = nn.Parameter(nn.Linear(ATTENTION_UNITS, 1).weight[0].detach())
        inputs = self.request_width + self.interest_width + width * len(ITEM_FIELDS)
        self.perceptron = Perceptron((inputs, units, units, units // 4, 1), dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Scores of the candidates, float [B, N]."""
        item_PX = embed_pool(self.embedding, batch)
        interest_RD = self.attend(batch, item_PX).flatten(0, 1)
        request_BX = embed_requests(self.embedding, batch)
        request_BH = self.perceptron.part(request_BX, 0, bias=True)
        inputs = [(interest_RD, self.request_width)]
        first = self.request_width + self.interest_width
        if in_order(batch):
            inputs, shared = [*inputs, (item_PX, first)], Shared(request_BH)
        else:
            item_PH = self.perceptron.part(item_PX, first)
            shared = Shared(request_BH, item_PH, batch.picks_BN.flatten())
        scores_BN: Tensor = self.perceptron(inputs, shared).view(batch.picks_BN.shape)
        return scores_BN

    def attend(self, batch: Batch, item_PX: Tensor) -> Tensor:
        """What each candidate finds in the history of its request, float [B, N, D]."""
        D = self.interest_width
        history_BLD = embed_history(self.embedding, batch)
        weight_AX = self.attention.weight
        history_BLA = product(history_BLD, weight_AX[:, :D], None, self.dtype)
        item_PA = product(item_PX[:, :D], weight_AX[:, D:], self.attention.bias, self.dtype)
        return target_attention(
            history_BLA, item_PA, self.attention_weight_A, history_BLD, batch.history_mask_BL,
            batch.picks_BN,
        )  # fmt: skip
