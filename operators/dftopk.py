"""DFTopK: a differentiable top-k in linear time (arXiv 2510.11472).

An entry's soft membership is a sigmoid of its distance from a threshold that lies midway between
the k-th and the (k+1)-th largest score, so no sort and no root search is needed.

Legend: ... any leading dimensions ("rows"), N candidates.

One policy for the edges:
- k <= 0 or k >= the valid entries: the row is decided, its soft mask is exactly 0 or 1 and its
  gradient zero. Its logits are -`CERTAIN` or +`CERTAIN`; losses should leave such rows out.
- Invalid entries have soft mask 0, logit -`CERTAIN`, no gradient, and no influence, even as NaN.
- A NaN among the valid scores of an undecided row makes that whole row NaN, and no other row.
- An entry at +inf is certainly in, one at -inf certainly out, and neither has a gradient; a
  threshold between an infinite and a finite score is huge and finite, so nothing turns NaN.
- Ties: each half of the threshold's gradient is shared equally by all valid entries that are
  tied with its boundary, so gradients do not depend on the order of the candidates.
"""

from typing import Any

import torch
from torch import Tensor

from operators.arguments import check_tau
from operators.kernels.boundary import boundary
from operators.ranking import Ranking, rank, settle

CERTAIN = 1e4
"""Logit of an entry whose membership is certain: sigmoid(+-CERTAIN) is exactly 1 or 0, and every
floating-point type can hold it."""


def dftopk(scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Soft top-k membership of every candidate.

    The soft mask does not sum to k: see arXiv 2510.11472, section 3.

    Args:
        scores: floating point [..., N].
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        tau: temperature, above 0, in the unit of the scores; towards 0 the mask becomes hard.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N] in [0, 1], in the type of the scores.

    Raises:
        ValueError: an argument of a wrong type, shape or range.

    >>> dftopk(torch.tensor([4.0, 2.0, 0.0]), k=1)
    tensor([0.7311, 0.2689, 0.0474])
    """
    return _logits(scores, k, tau, mask).sigmoid().to(scores.dtype)


def dftopk_logits(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Logits of `dftopk`, for losses: `(scores - threshold) / tau`.

    Takes the arguments and raises the errors of `dftopk`.

    >>> dftopk_logits(torch.tensor([4.0, 2.0, 0.0]), k=1)
    tensor([ 1., -1., -3.])
    """
    return _logits(scores, k, tau, mask).to(scores.dtype)


def _logits(scores: Tensor, k: int | Tensor, tau: float, mask: Tensor | None) -> Tensor:
    check_tau(tau)
    ranking = rank(scores, k, mask)
    logits = ranking.live
    if scores.shape[-1] >= 2:
        upper, lower = boundary(ranking.ranked, k if isinstance(k, int) else ranking.k)
        logits = _distance(ranking, upper, lower, tau)
    return settle(logits, ranking, mask, CERTAIN, -CERTAIN)


def _distance(ranking: Ranking, upper: Tensor, lower: Tensor, tau: float) -> Tensor:
    distance: Tensor = _Distance.apply(  # type: ignore[no-untyped-call]
        ranking.live, ranking.ranked, upper, lower, tau
    )
    return distance


class _Distance(torch.autograd.Function):
    """Distance from the midpoint of two boundary values, in units of tau.

    The midpoint's gradient is shared among the entries tied with each boundary. All is piecewise
    linear in the scores, so backward does not depend on them and can be differentiated again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(live: Tensor, ranked: Tensor, upper: Tensor, lower: Tensor, tau: float) -> Tensor:  # noqa: ARG004
        limit = torch.finfo(live.dtype).max / 4
        midpoint = 0.5 * upper.clamp(-limit, limit) + 0.5 * lower.clamp(-limit, limit)
        return (live - midpoint) / tau

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.save_for_backward(*inputs[1:4])
        ctx.tau = inputs[4]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        ranked, upper, lower = ctx.saved_tensors
        grad = grads[0] / ctx.tau
        half = -0.5 * grad.sum(-1, keepdim=True)
        for cut in (upper, lower):
            tied, share = _share(ranked, cut, half)
            grad = torch.addcmul(grad, tied, share)
        return grad, None, None, None, None


def _share(ranked: Tensor, boundary: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Which entries are tied with the boundary, as 0 and 1, and what each gets of the gradient."""
    tied = (ranked == boundary).to(grad.dtype)
    # No entry is tied with NaN: at least 1 keeps decided rows free of 0 / 0.
    share = grad / tied.sum(-1, keepdim=True).clamp(min=1)
    return tied, share.masked_fill(boundary.isinf(), 0.0)
