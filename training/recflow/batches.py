"""Batches: what a step sees, cut out of a prepared log without Python a request.

Legend: B requests, F fields, L history length, S slots of a request, P items of the pool, N
candidates.
"""

from typing import NamedTuple

from torch import Tensor

from training.losses.judgments import Judgments


class Batch(NamedTuple):
    """B requests and their candidates.

    The slots of all requests form one pool of P = B * S items, so that whatever depends on an item
    alone is computed once, however many requests drew it as a negative.
    """

    fields_BF: Tensor
    """int32, as `REQUEST_FIELDS`."""
    history_BLF: Tensor
    """int32, as `HISTORY_FIELDS`; zeros in the padding, which comes first."""
    history_mask_BL: Tensor
    """bool, True where there is a behaviour."""
    pool_PF: Tensor
    """int32, as `ITEM_FIELDS`; zeros in an empty slot."""
    picks_BN: Tensor
    """int64, each request's candidates as places in the pool: its own S slots (`b * S + s`), then
    its negatives."""
    judgments: Judgments
    """About the same [B, N]."""
    request_ids_B: Tensor
    """int64"""
