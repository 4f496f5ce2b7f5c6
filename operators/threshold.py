"""Soft top-k masks that sum to k: LapSum, sparse top-k and logistic top-k.

Membership is `p = F((x - theta) / tau)` for a distribution function F, and theta is the root of
`sum p = k`: the threshold itself adapts to the scores. A change dx of the scores moves theta by
`sum w dx` with the weights `w = f / sum f`, f = F', so the gradient of a loss with `g = dL/dp` is
`f (g - sum(f g) / sum f) / tau`. Theta is found without a sort: `operators.kernels.threshold`.

Legend: ... any leading dimensions ("rows"), N candidates, z = (x - theta) / tau.

Edges are those of `operators.dftopk`. Entries at +inf take places; if they take all, every finite
entry is out for certain, and if there is a place for every finite entry, each is in.
"""

from typing import Any

import torch
from torch import Tensor

from operators.arguments import check_tau
from operators.dftopk import CERTAIN
from operators.kernels.family import FAMILIES
from operators.kernels.threshold import threshold
from operators.ranking import Ranking, rank, settle

LIMIT = 1e28
"""Distances beyond this many tau come from infinite scores: they are cut, and have no gradient."""


def lapsum(scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Soft top-k membership by LapSum: F is the distribution function of Laplace(0, 1).

    Source: Struski et al. 2025, LapSum (arXiv 2503.06242).

    Args:
        scores: floating point [..., N].
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        tau: temperature, above 0, in the unit of the scores; towards 0 the mask becomes hard.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N] in [0, 1], in the type of the scores; a row sums to k.

    Raises:
        ValueError: an argument of a wrong type, shape or range.

    >>> lapsum(torch.tensor([4.0, 2.0, 0.0]), k=1)
    tensor([0.8040, 0.1726, 0.0234])
    """
    return _soft_mask(scores, k, tau, mask, "laplace")


def logistic_topk(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Soft top-k membership with a sigmoid for F: a top-k with the binary entropy as regulariser.

    It maximises `<p, x> + tau sum H(p)` over 0 <= p <= 1, sum p = k, H the entropy of a coin.
    Source: Amos et al. 2019, the limited multi-label projection (arXiv 1906.08707).

    Takes the arguments and raises the errors of `lapsum`.

    >>> logistic_topk(torch.tensor([4.0, 2.0, 0.0]), k=1)
    tensor([0.7091, 0.2481, 0.0427])
    """
    return _soft_mask(scores, k, tau, mask, "logistic")


def sparse_topk(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Sparse top-k membership: `clip((x - theta) / tau, 0, 1)`, mostly of zeros and ones.

    It maximises `<p, x> - tau/2 |p|^2` over 0 <= p <= 1, sum p = k (a projection onto the budget
    polytope), the case p = 2 of Sander et al. 2023, Fast, Differentiable and Sparse Top-k (arXiv
    2302.01425). The density f is 1 where 0 < z < 1 and 0 elsewhere, at 0 and 1 too, so
    entries that are tied share a gradient, and a row of zeros and ones has none. There is no
    logits form: the logits would be infinite.

    Takes the arguments and raises the errors of `lapsum`.

    >>> sparse_topk(torch.tensor([4.0, 3.5, 0.0]), k=1)
    tensor([0.7500, 0.2500, 0.0000])
    """
    return _soft_mask(scores, k, tau, mask, "box")


def lapsum_logits(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Logits of `lapsum`, for losses: `sign(z) (|z| + log(2 - exp(-|z|)))`.

    Where F underflows the logits go on, as do their gradients. Takes the arguments and raises the
    errors of `lapsum`.

    >>> lapsum_logits(torch.tensor([1.0, -1.0]), k=1)
    tensor([ 1.4899, -1.4899])
    """
    return _logits(scores, k, tau, mask, "laplace")


def logistic_topk_logits(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Logits of `logistic_topk`, for losses: z itself.

    Takes the arguments and raises the errors of `lapsum`.

    >>> logistic_topk_logits(torch.tensor([1.0, -1.0]), k=1)
    tensor([ 1., -1.])
    """
    return _logits(scores, k, tau, mask, "logistic")


def _soft_mask(
    scores: Tensor, k: int | Tensor, tau: float, mask: Tensor | None, family: str
) -> Tensor:
    check_tau(tau)
    ranking = rank(scores, k, mask)
    soft = _Membership.apply(*_located(ranking, tau, mask, family))[0]  # type: ignore[no-untyped-call]
    return settle(soft, ranking, mask).to(scores.dtype)


def _logits(
    scores: Tensor, k: int | Tensor, tau: float, mask: Tensor | None, family: str
) -> Tensor:
    check_tau(tau)
    ranking = rank(scores, k, mask)
    distance = _Distance.apply(*_located(ranking, tau, mask, family))  # type: ignore[no-untyped-call]
    logits = distance.clamp(-LIMIT, LIMIT)
    if family == "laplace":
        logits = _LaplaceLogit.apply(logits)  # type: ignore[no-untyped-call]
    return settle(logits, ranking, mask, CERTAIN, -CERTAIN).to(scores.dtype)


def _located(
    ranking: Ranking, tau: float, mask: Tensor | None, family: str
) -> tuple[Tensor, Tensor, Tensor, float, str]:
    """Who competes, at -inf if not, and where the threshold lies; with tau and family."""
    x = ranking.live
    if not ranking.open:
        out = ranking.decided if mask is None else ranking.decided | ~mask
        x = x.masked_fill(out, -torch.inf)
    kind = torch.finfo(x.dtype)  # beyond these bounds tau changes nothing that can be represented
    tau = min(max(tau, 4 * kind.tiny), kind.max / 1e4)
    k = ranking.k.expand(*x.shape[:-1], 1)
    theta, rest = threshold(x.detach(), k, tau, family)
    return x, theta, rest, tau, family


class _Membership(torch.autograd.Function):
    """F and F' of the distance from the threshold, which itself depends on the scores.

    F' is an output so that backward, which is made of outputs, can be differentiated again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, theta: Tensor, rest: Tensor, tau: float, family: str
    ) -> tuple[Tensor, Tensor]:
        return FAMILIES[family].soft((x - theta).sub_(rest), tau)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
        ctx.save_for_backward(*output)
        ctx.tau, ctx.family = inputs[3:]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor | None,
        grad_density: Tensor | None,
    ) -> tuple[Tensor | None, None, None, None, None]:
        soft, density = ctx.saved_tensors
        pull = None if grad is None else grad * density
        if grad_density is not None:
            bent = grad_density * density * FAMILIES[ctx.family].bend(soft)
            pull = bent if pull is None else pull + bent
        if pull is None:
            return None, None, None, None, None
        # At least the smallest number: rows of certain entries have no density, and no gradient.
        mass = density.sum(-1, keepdim=True).clamp(min=torch.finfo(density.dtype).tiny)
        mean = pull.sum(-1, keepdim=True) / mass
        return torch.addcmul(pull, density, mean, value=-1).div_(ctx.tau), None, None, None, None


class _Distance(torch.autograd.Function):
    """Distance z from the threshold, which itself depends on the scores; the family is smooth."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, theta: Tensor, rest: Tensor, tau: float, family: str) -> Tensor:  # noqa: ARG004
        return (x - theta).sub_(rest).div_(tau)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(output)
        ctx.tau, ctx.family = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        (distance,) = ctx.saved_tensors
        total = grad.sum(-1, keepdim=True)
        weights = _weights(distance, ctx.family)
        return torch.addcmul(grad, weights, total, value=-1).div_(ctx.tau), None, None, None, None


def _weights(distance: Tensor, family: str) -> Tensor:
    """F' over its sum, even where all of F' underflows."""
    height = distance.abs().clamp(max=LIMIT)
    weights = torch.softmax(-height, -1)
    if family == "laplace":
        return weights
    weights = weights * height.sigmoid().square()
    return weights / weights.sum(-1, keepdim=True)


class _LaplaceLogit(torch.autograd.Function):
    """log F - log(1 - F) of Laplace(0, 1); its derivative is 1 / F(|z|)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        height = z.abs()
        return (height + torch.log1p(-torch.expm1(-height))).copysign(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        (z,) = ctx.saved_tensors
        return grad / (1 - 0.5 * torch.exp(-z.abs()))
