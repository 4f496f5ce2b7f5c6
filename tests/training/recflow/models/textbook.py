"""The stages as a textbook writes them: every candidate with a copy of its request, concatenated.

Legend: B requests, N candidates, L history length, D width of a field, X columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding as look_up

from training.recflow.batches import Batch
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS
from training.recflow.models.din import DIN
from training.recflow.models.dssm import DSSM
from training.recflow.models.fields import FIELDS
from training.recflow.models.mlp import MLP


class Inputs(NamedTuple):
    """Embedded fields."""

    request_BX: Tensor
    history_BLX: Tensor
    mean_BX: Tensor
    items_BNX: Tensor


def tables(stage: DSSM | MLP | DIN) -> dict[str, Tensor]:
    """A copy of a stage's tables, one a field."""
    split = stage.embedding.weight_RD.detach().clone().split(stage.embedding.vocabularies)
    return {field: table.requires_grad_() for field, table in zip(FIELDS, split, strict=True)}


def embedded(tables: dict[str, Tensor], batch: Batch) -> Inputs:
    """Look every field up for every candidate of every request."""

    def look(rows_XF: Tensor, fields: tuple[str, ...]) -> Tensor:
        columns = zip(rows_XF.long().unbind(-1), fields, strict=True)
        return torch.cat(
            [look_up(torch.where(r < len(tables[f]), r, 0), tables[f], 0) for r, f in columns], -1
        )

    history_BLX = look(batch.history_BLF, HISTORY_FIELDS)
    sums_BX = (history_BLX * batch.history_mask_BL.unsqueeze(2)).sum(1)
    mean_BX = sums_BX / batch.history_mask_BL.sum(1, keepdim=True).clamp(min=1)
    items_BNX = look(batch.pool_PF[batch.picks_BN], ITEM_FIELDS)
    return Inputs(look(batch.fields_BF, REQUEST_FIELDS), history_BLX, mean_BX, items_BNX)


def _layers(perceptron: nn.Module, x: Tensor) -> Tensor:
    *hidden, last = perceptron.layers  # type: ignore[misc]
    for layer in hidden:
        x = layer(x).relu()
    answer: Tensor = last(x)
    return answer


def dssm(stage: DSSM, inputs: Inputs) -> Tensor:
    """Scores of DSSM, [B, N]."""
    request_BX = torch.cat([inputs.request_BX, inputs.mean_BX], 1)
    request_BE = _layers(stage.request_tower, request_BX)
    return (_layers(stage.item_tower, inputs.items_BNX) * request_BE.unsqueeze(1)).sum(2)


def mlp(stage: MLP, inputs: Inputs) -> Tensor:
    """Scores of MLP, [B, N]."""
    request_BX = torch.cat([inputs.request_BX, inputs.mean_BX], 1)
    request_BNX = request_BX.unsqueeze(1).expand(-1, inputs.items_BNX.shape[1], -1)
    return _layers(stage.perceptron, torch.cat([request_BNX, inputs.items_BNX], 2)).squeeze(2)


def din(stage: DIN, inputs: Inputs, mask_BL: Tensor) -> Tensor:
    """Scores of DIN, [B, N]."""
    history_BLX, items_BNX = inputs.history_BLX, inputs.items_BNX
    N, L, X = items_BNX.shape[1], *history_BLX.shape[1:]
    history_BNLX = history_BLX.unsqueeze(1).expand(-1, N, -1, -1)
    target_BNLX = items_BNX[:, :, None, :X].expand(-1, -1, L, -1)
    hidden_BNLA = stage.attention(torch.cat([history_BNLX, target_BNLX], 3)).relu()
    logits_BNL = hidden_BNLA @ stage.attention_weight_A
    logits_BNL = logits_BNL.masked_fill(~mask_BL.unsqueeze(1), -(2.0**30))
    interest_BNX = (logits_BNL.softmax(2).unsqueeze(3) * history_BNLX).sum(2)
    # Without behaviours all weigh the same, but the padding holds zeros.
    request_BNX = inputs.request_BX.unsqueeze(1).expand(-1, N, -1)
    return _layers(stage.perceptron, torch.cat([request_BNX, interest_BNX, items_BNX], 2)).squeeze(
        2
    )
