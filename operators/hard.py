"""Exact top-k membership: what every soft operator tends to as its temperature falls to zero."""

import torch
from torch import Tensor

from operators.arguments import check_number
from operators.ranking import rank


def hard_topk(
    scores: Tensor,
    k: int | Tensor,
    tau: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Membership of every candidate in the top k, without gradient.

    Of tied candidates the one with the lower index goes first, so never more than k are in; that
    holds for candidates at +inf too. One at -inf is out. A NaN among the valid scores makes its row
    NaN. None of this concerns a row that is decided whatever its scores are: k <= 0 or k >= valid
    entries.

    Args:
        scores: floating point [..., N].
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        tau: any number; it has no effect here, all operators are called alike.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N] of 0 and 1, in the type of the scores.

    Raises:
        ValueError: an argument of a wrong type or shape.

    >>> hard_topk(torch.tensor([1.0, 3.0, 3.0, 2.0]), k=1)
    tensor([0., 1., 0., 0.])
    """
    check_number(tau)
    ranking = rank(scores, k, mask)
    valid = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    order = ranking.ranked.sort(dim=-1, descending=True, stable=True).indices
    # The inverse of a permutation is its argsort: the place of every candidate.
    first = order.argsort(-1) < ranking.k
    selected = torch.where(ranking.decided, ranking.k > 0, first & (ranking.ranked > -torch.inf))
    poisoned = ranking.ranked.isnan().any(-1, keepdim=True) & ~ranking.decided
    return (selected & valid).to(scores.dtype).masked_fill(poisoned, torch.nan)
