"""The finite entries of a row and the places they compete for, for operators that compare pairs.

Infinite scores are decided before any comparison: +inf takes a place, -inf takes none. What is left
is moved to the row's mean and measured in tau, which changes no operator that looks at differences
only, and keeps their sums small.

Legend: ... any leading dimensions ("rows"), N candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from operators.ranking import Ranking, settle


class Contest(NamedTuple):
    """Finite numbers only, whatever the scores are."""

    heights: Tensor
    """[..., N], differentiable: score less the row's mean, in tau; 0 where an entry is no part."""
    competes: Tensor
    """bool [..., N]: valid and finite."""
    places: Tensor
    """int64 [..., 1]: k less the valid entries at +inf; may be negative or above `rivals`."""
    rivals: Tensor
    """int64 [..., 1]: entries that compete."""


def contest(ranking: Ranking, tau: float) -> Contest:
    """Who competes for what; beyond the largest float / 16N, heights are cut off (and so tied)."""
    competes = ranking.ranked.isfinite()
    rivals = competes.sum(-1, keepdim=True)
    places = ranking.k - (ranking.ranked == torch.inf).sum(-1, keepdim=True)
    mean = (ranking.ranked.where(competes, 0.0) / rivals.clamp(min=1)).sum(-1, keepdim=True)
    limit = torch.finfo(mean.dtype).max / (16 * max(ranking.live.shape[-1], 1))
    heights = ((ranking.live.where(competes, 0.0) - mean) / tau).clamp(-limit, limit)
    return Contest(heights.where(competes, 0.0), competes, places, rivals)


def conclude(soft: Tensor, held: Contest, ranking: Ranking, mask: Tensor | None) -> Tensor:
    """The soft mask [..., N] of a whole row from that of its competitors.

    The competitors' must be finite everywhere, and 0 where there are no places.
    """
    poisoned = ranking.ranked.isnan().any(-1, keepdim=True) & ~ranking.decided
    soft = soft.masked_fill((held.places >= held.rivals) & ~poisoned, 1.0)
    soft = soft.where(held.competes, (ranking.ranked == torch.inf).to(soft.dtype))
    # A product, so that the row's gradient is NaN as well and not a silent 0.
    return settle(soft * torch.where(poisoned, torch.nan, 1.0).to(soft.dtype), ranking, mask)


def certify(rows: Tensor, held: Contest, ranking: Ranking, mask: Tensor | None) -> Tensor:
    """Rows of a permutation matrix [..., N, N], 0 for places that nobody competes for.

    All are NaN where a valid score is not finite.
    """
    broken = ~ranking.live.detach().isfinite()
    if mask is not None:
        broken = broken & mask
    taken = torch.arange(rows.shape[-1], device=rows.device) < held.rivals
    # A product, so that the gradient is NaN as well and not a silent 0.
    factor = taken.to(rows.dtype).masked_fill(broken.any(-1, keepdim=True), torch.nan)
    return rows * factor.unsqueeze(-1)
