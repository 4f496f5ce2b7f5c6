"""Exact top-k membership: what every soft operator tends to as its temperature falls to zero."""

import torch
from torch import Tensor

from operators.ranking import rank


def hard_topk(scores: Tensor, k: int | Tensor, mask: Tensor | None = None) -> Tensor:
    """Membership of every candidate in the top k, without gradient.

    Of tied candidates the one with the lower index goes first. A NaN among the valid scores makes
    its row NaN, unless the row is decided whatever its scores are (k <= 0 or k >= valid entries).

    Args:
        scores: floating point [..., N].
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N] of 0 and 1, in the type of the scores.

    Raises:
        ValueError: an argument of a wrong type or shape.

    >>> hard_topk(torch.tensor([1.0, 3.0, 3.0, 2.0]), k=1)
    tensor([0., 1., 0., 0.])
    """
    ranking = rank(scores, k, mask)
    lowest = torch.finfo(ranking.live.dtype).min
    ranked = ranking.live.detach().clamp(min=lowest)  # a valid -inf goes before an invalid entry
    if mask is not None:
        ranked = ranked.masked_fill(~mask, -torch.inf)
    order = ranked.sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    selected = torch.empty_like(order).scatter_(-1, order, places) < ranking.k
    if mask is not None:
        selected &= mask
    poisoned = ranking.ranked.isnan().any(-1, keepdim=True) & ~ranking.decided
    return selected.to(scores.dtype).masked_fill(poisoned, torch.nan)
