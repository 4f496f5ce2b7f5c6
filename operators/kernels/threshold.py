"""The threshold at which soft memberships add up to k, found without a sort.

Legend: R rows, N candidates, z = (x - theta) / tau.

Theta is the sum of two numbers, as one is too coarse where theta is large and tau small.

Newton's method, kept in a bracket by bisection and started from the root of a sample of the
candidates, needs a few passes over a row. In the smooth families log F' has slope at most 1, so a
step of rho tau, rho < 1/2, ends within 2 rho^2 tau of the root: it is known when to stop. Rows that
take longer, with tau far below the gaps between scores, start anew between the k-th and the
(k+1)-th largest score.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from operators.kernels import cpu
from operators.kernels.boundary import batched, boundary
from operators.kernels.family import FAMILIES, Family

STRIDE = 16
"""A sample is every 16th candidate."""
SHORT = 512
"""Rows of fewer candidates are not sampled."""
BLOCK = 1 << 20
"""Rows are solved in blocks of about this many numbers, which bounds the memory of a search."""
PASSES = 8
"""Passes before a row is given up and bracketed by its boundary."""
FLAT = 1e-28
"""A sum of densities below this comes from tails that were cut, and says nothing."""
DEEP = 100.0
"""In a gap of this many tau theta has a closed form: tails are exponentials on both sides."""


class Search(NamedTuple):
    """What is known of each row's root; all [R, 1]."""

    theta: Tensor
    rest: Tensor
    """The root is theta + rest, to the precision reached."""
    low: Tensor
    high: Tensor
    """Theta is within these."""
    done: Tensor


@torch.library.custom_op("cascade::threshold", mutates_args=())
def threshold(scores: Tensor, k: Tensor, tau: float, family: str) -> tuple[Tensor, Tensor]:
    """Root theta of `sum_i F((x_i - theta) / tau) = k` in every row, without gradient.

    An entry at +inf counts 1 and one at -inf counts 0, wherever theta is.

    Args:
        scores: float32 or float64 [..., N].
        k: int64, broadcasts to [..., 1].
        tau: above 0.
        family: one of `operators.kernels.family.FAMILIES`.

    Returns:
        Theta rounded, [..., 1], and what rounding took from it, [..., 1]. NaN for a row with a NaN.
        Far above every score where entries at +inf take all places, or k < 1, and far below where
        there is a place for each finite entry.

    Raises:
        ValueError: an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"family == {family!r} must be one of: {', '.join(FAMILIES)}")
    theta = scores.new_zeros(*scores.shape[:-1], 1)
    rest = torch.zeros_like(theta)
    if scores.numel() == 0:
        return theta, rest
    if cpu.takes(scores) and cpu.TAUS[0] <= tau <= cpu.TAUS[1]:
        ks = k.expand_as(theta).reshape(-1).contiguous()
        at, off = cpu.threshold(scores.reshape(-1, scores.shape[-1]).contiguous(), ks, tau, family)
        return at.view_as(theta), off.view_as(rest)
    rows = max(BLOCK // scores.shape[-1], 1)
    blocks = zip(
        scores.reshape(-1, scores.shape[-1]).split(rows),
        k.expand_as(theta).reshape(-1, 1).to(scores.dtype).split(rows),
        theta.view(-1, 1).split(rows),
        rest.view(-1, 1).split(rows),
        strict=True,
    )
    for x, places, theta_R1, rest_R1 in blocks:
        found = _solve(x, places, tau, FAMILIES[family])
        theta_R1.copy_(found.theta)
        rest_R1.copy_(found.rest)
    return theta, rest


@threshold.register_fake
def _(scores: Tensor, k: Tensor, tau: float, family: str) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    shape = (*scores.shape[:-1], 1)
    return scores.new_empty(shape), scores.new_empty(shape)


@threshold.register_vmap
def _(
    info: Any,  # noqa: ANN401  # torch has no public name for its type
    in_dims: tuple[int | None, ...],
    scores: Tensor,
    k: Tensor,
    tau: float,
    family: str,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    rows, ks = batched(info.batch_size, in_dims, scores, k)
    return threshold(rows, ks, tau, family), (0, 0)


def _solve(x: Tensor, k: Tensor, tau: float, family: Family) -> Search:
    search = _bracket(x, k, tau, family)
    n = x.shape[-1]
    if n >= SHORT:
        sample = x[:, ::STRIDE].contiguous()
        start = _newton(sample, k * (sample.shape[-1] / n), tau, family, search, tolerance=0.1)
        search = search._replace(theta=start.theta)
    search = _newton(x, k, tau, family, search)
    left = (~search.done).flatten().nonzero().flatten()
    if left.numel():
        found = _enclosed(x[left], k[left], tau, family)
        search.theta[left], search.rest[left] = found.theta, found.rest
    return search


def _bracket(x: Tensor, k: Tensor, tau: float, family: Family) -> Search:
    """A constant row has its root at x - tau F^-1(k / N), every other row between two of those."""
    huge = torch.finfo(x.dtype).max
    least, most = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    places, rivals = k, torch.full_like(k, x.shape[-1])
    nan = most.isnan()
    if not bool((most - least).isfinite().all()):
        least = x.nan_to_num(0.0, huge, huge).amin(-1, keepdim=True)
        most = x.nan_to_num(0.0, -huge, -huge).amax(-1, keepdim=True)
        places = k - (x == torch.inf).sum(-1, keepdim=True)
        rivals = x.isfinite().sum(-1, keepdim=True)
    shift = tau * family.quantile(places / rivals)
    low, high = least - shift, most - shift
    done = (places <= 0) | (places >= rivals) | nan
    far = torch.where(places <= 0, 1.0, -1.0).to(x.dtype).masked_fill(nan, torch.nan) * (huge / 4)
    theta = torch.where(done, far, low / 2 + high / 2)
    return Search(theta, torch.zeros_like(theta), low, high, done)


def _newton(
    x: Tensor,
    k: Tensor,
    tau: float,
    family: Family,
    search: Search,
    passes: int = PASSES,
    tolerance: float | None = None,
) -> Search:
    """Newton's method for all rows at once; the tolerance is that of the last step, in tau."""
    theta, rest, low, high, done = search
    if tolerance is None:
        eps = torch.finfo(x.dtype).eps
        tolerance = eps**0.5 if family.smooth else 32 * eps
    work = torch.empty_like(x), torch.empty_like(x)
    for _ in range(passes):
        distance = torch.sub(x, theta, out=work[0]).sub_(rest)
        excess, slope = family.excess(distance, k, tau, work[1])
        low, high = torch.where(excess >= 0, theta, low), torch.where(excess <= 0, theta, high)
        rho = excess / slope.clamp_(min=FLAT)
        close = (rho.abs() <= tolerance) & ((slope > FLAT) | (not family.smooth))
        step = rest + tau * rho
        target = theta + step
        taken = close | ((target >= low) & (target <= high))
        rest = torch.where(done, rest, (step - (target - theta)).masked_fill_(~taken, 0.0))
        theta = torch.where(done, theta, torch.where(taken, target, low / 2 + high / 2))
        done = done | close
        if bool(done.all()):
            break
    return Search(theta, rest, low, high, done)


def _enclosed(x: Tensor, k: Tensor, tau: float, family: Family) -> Search:
    """Roots of rows with 0 < k < N, from the k-th and (k+1)-th largest score.

    In the gap between them the tails above theta balance those below. Far from both they are
    exponentials, and so theta is their midpoint, moved by half of what each side weighs in logs.
    A box that fits into the gap is put in its middle.
    All is measured from the k-th largest, so that one float is fine enough for theta.
    """
    n, place = x.shape[-1], k.long()
    origin, lower = boundary(x, place)
    y, lower = x - origin, lower - origin
    if family.smooth:
        theta = lower / 2
        above = y >= 0
        weights = torch.where(above, -y, y - lower).div_(tau).clamp_(max=0).exp_()
        tops = weights.where(above, 0.0).sum(-1, keepdim=True)
        others = weights.masked_fill_(above, 0.0).sum(-1, keepdim=True).clamp(min=1)
        theta += tau / 2 * (others.log() - tops.log())
        done = lower < -DEEP * tau
    else:
        theta, done = (lower - tau) / 2, lower <= -tau
    low = lower - tau * family.quantile(k / (k + 1))
    high = -tau * family.quantile(1 / (n - k + 1))
    theta = torch.where(done, theta, theta.clamp(low, high))
    search = Search(theta, torch.zeros_like(theta), low, high, done)
    found = _newton(y, k, tau, family, search, passes=100)
    theta = origin + found.theta
    return found._replace(theta=theta, rest=found.theta - (theta - origin) + found.rest)
