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
        return Ranking(live, ranked, k_rows, (k_rows <= 0) | (k_rows >= scores.shape[-1]))
    ranked = ranked.masked_fill(~mask, -torch.inf)
    return Ranking(live, ranked, k_rows, (k_rows <= 0) | (k_rows >= mask.sum(-1, keepdim=True)))
