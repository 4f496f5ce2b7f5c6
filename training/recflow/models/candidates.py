"""Candidates: from what is known of a pool's items to what each request asks about.

Legend: B requests, N candidates, P items of the pool.
"""

import torch
from torch import Tensor

from training.recflow.batches import Batch


def in_order(batch: Batch) -> bool:
    """Whether the candidates are the pool itself, so that nothing has to be gathered."""
    picks_BN, P = batch.picks_BN, len(batch.pool_PF)
    in_order_P = torch.arange(P, device=picks_BN.device)
    return picks_BN.numel() == P and torch.equal(picks_BN.flatten(), in_order_P)


def pick(items_PX: Tensor, batch: Batch) -> Tensor:
    """Each request's candidates out of float [P, X]: [B, N, X], a view where it can be."""
    B, N = batch.picks_BN.shape
    if in_order(batch):
        return items_PX.view(B, N, -1)
    return items_PX.index_select(0, batch.picks_BN.flatten()).view(B, N, -1)
