"""What every operator needs to know of a row before it selects: who competes, and for what.

Legend: ... any leading dimensions ("rows"), N candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from operators.arguments import check_k, check_mask, check_scores


class Ranking(NamedTuple):
    """Scores in the type they are computed in, and the rows whose answer needs no scores."""

    live: Tensor
    """float32 or float64 [..., N], differentiable in the scores."""
    ranked: Tensor
    """[..., N], detached: `live` with invalid entries at -inf."""
    k: Tensor
    """int64 [..., 1] or [1]."""
    decided: Tensor
    """bool [..., 1] or [1]: k <= 0 or k >= the valid entries, so that nothing depends on scores."""
    open: bool = False
    """Known without looking at a tensor: every entry is valid and no row is decided."""


def rank(scores: Tensor, k: int | Tensor, mask: Tensor | None) -> Ranking:
    """Check and prepare the arguments of an operator; half precision is computed in float32.

    Raises:
        ValueError: scores, k or mask of a wrong type or shape.
    """
    check_scores(scores)
    check_k(k, scores)
    check_mask(mask, scores)
    live = scores if scores.dtype == torch.float64 else scores.float()
    ranked = live.detach()
    k_rows = torch.as_tensor(k, dtype=torch.int64, device=scores.device).unsqueeze(-1)
    if mask is None:
        everyone = scores.shape[-1]
        is_open = isinstance(k, int) and 0 < k < everyone
        return Ranking(live, ranked, k_rows, (k_rows <= 0) | (k_rows >= everyone), is_open)
    ranked = ranked.masked_fill(~mask, -torch.inf)
    return Ranking(live, ranked, k_rows, (k_rows <= 0) | (k_rows >= mask.sum(-1, keepdim=True)))


def settle(
    values: Tensor,
    ranking: Ranking,
    mask: Tensor | None,
    certain_in: float = 1.0,
    certain_out: float = 0.0,
) -> Tensor:
    """Write what depends on no score over the values: decided rows and invalid entries.

    What is written over gets a gradient of zero, which a later product with NaN would spoil: settle
    logits before a sigmoid, and settle a mask only if its own gradient is finite everywhere.

    Args:
        values: float32 or float64 [..., N].
        ranking: of the same rows.
        mask: bool [..., N], True where an entry is valid; all are if None.
        certain_in: value of an entry that is certainly selected: 1 in a mask, `CERTAIN` in logits.
        certain_out: value of an entry that certainly is not: 0 in a mask, -`CERTAIN` in logits.
    """
    if ranking.open:
        return values
    fate = torch.where(ranking.k > 0, certain_in, certain_out).to(values.dtype)
    settled = torch.where(ranking.decided, fate, values)
    return settled if mask is None else settled.masked_fill(~mask, certain_out)
