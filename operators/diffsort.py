"""DiffSort: a soft top-k by a sorting network whose comparators swap softly.

A comparator of scores a and b leaves them in place with weight w = F(a - b) and exchanges them with
weight 1 - w. The layers' product is a relaxed permutation matrix P, doubly stochastic, and the soft
mask is P^T 1_k. P is never built: the scores run forward through the layers, which gives the
weights, and the indicator of the first k places runs back through them, O(N log^2 N) time and
memory. `diffsort` does build it, from the indicators of all places.

The network is bitonic: log2(N)(log2(N) + 1)/2 layers, where odd-even transposition has N. In its
form with mirrored first comparators every comparator puts the larger score first, so that entries
which lose for certain never leave the end, and a merge with a half that holds nobody is left out. A
row of n candidates therefore has the same soft mask whatever N it is padded to.

F is the Cauchy distribution function: with it the sorted scores that leave the network are monotone
in those that enter it, so that no gradient has the wrong sign, which is not so with the logistic
one (Petersen et al. 2022). Its tails are long: a comparator is off the hard one by about
tau / (pi gap), not by an exponential of the gap.

Edges are those of `operators.dftopk`. Which comparators a candidate meets depends on where it
stands, so unlike the other operators this one is permutation-equivariant only in the hard limit,
tied candidates get unequal memberships, and memberships are not always ordered as the scores are.

Legend: ... any leading dimensions ("rows"), N candidates, P lanes: N rounded up to a power of two.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from operators.arguments import check_tau
from operators.contest import Contest, certify, conclude, contest
from operators.ranking import rank


def diffsort_topk(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Soft top-k membership by a bitonic differentiable sorting network.

    Sums to k. Source: Petersen et al. 2021 (arXiv 2105.04019), with the Cauchy comparator of
    Petersen et al. 2022 (arXiv 2203.09630), and its use for top-k, arXiv 2206.07290.

    Args:
        scores: floating point [..., N]; under torch.export N is fixed, as it shapes the network.
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        tau: temperature, above 0, in the unit of the scores; towards 0 the mask becomes hard.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N] in [0, 1], in the type of the scores.

    Raises:
        ValueError: an argument of a wrong type, shape or range.

    >>> diffsort_topk(torch.tensor([4.0, 2.0]), k=1)
    tensor([0.8524, 0.1476])
    """
    check_tau(tau)
    ranking = rank(scores, k, mask)
    held = contest(ranking, tau)
    lanes, heights = _compact(held)
    indicator = torch.arange(heights.shape[-1], device=heights.device) < held.places
    soft = _through(heights, indicator.to(heights.dtype).unsqueeze(-2), held.rivals).squeeze(-2)
    # Of one lane there is no comparator: the 0 keeps the result a function of the scores.
    soft = soft.gather(-1, lanes) + 0.0 * held.heights
    return conclude(soft, held, ranking, mask).to(scores.dtype)


def diffsort(scores: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """The network's relaxed permutation matrix, whose first k rows sum to `diffsort_topk`.

    O(N^2 log^2 N) time and memory. Takes the arguments, gives the result and raises the errors of
    `operators.permutation.neuralsort`; the columns of valid entries sum to 1 as well.

    >>> diffsort(torch.tensor([4.0, 2.0]))
    tensor([[0.8524, 0.1476],
            [0.1476, 0.8524]])
    """
    check_tau(tau)
    ranking = rank(scores, 0, mask)
    held = contest(ranking, tau)
    lanes, heights = _compact(held)
    n = scores.shape[-1]
    places = torch.eye(n, heights.shape[-1], dtype=heights.dtype, device=heights.device)
    taken = _through(heights, places.expand(*lanes.shape, -1), held.rivals)
    matrix = taken.gather(-1, lanes.unsqueeze(-2).expand(*lanes.shape, n))
    # Of one lane there is no comparator: the 0 keeps the result a function of the scores.
    matrix = matrix + 0.0 * held.heights.unsqueeze(-2)
    return certify(matrix, held, ranking, mask).to(scores.dtype)


def _through(heights: Tensor, indicators: Tensor, rivals: Tensor) -> Tensor:
    """Indicators of places [..., I, P] run back through the network, to indicators of lanes."""
    layers, weights = _layers(heights.shape[-1]), []
    for layer in layers:
        weight, heights = _compare(layer, heights, rivals)
        weights.append(weight.unsqueeze(-3))
    for layer, weight in zip(reversed(layers), reversed(weights), strict=True):
        first, second = _pairs(layer, indicators)
        indicators = _unpaired(layer, second.lerp(first, weight), first.lerp(second, weight))
    return indicators


class _Layer(NamedTuple):
    """One layer: blocks of `width` lanes, whose halves meet mirrored or side by side."""

    width: int
    mirrored: bool
    merged: int
    """Width of the blocks that this and its neighbouring layers merge from two sorted halves."""


def _layers(lanes: int) -> list[_Layer]:
    """The bitonic network of a power of two."""
    depth = lanes.bit_length() - 1
    return [
        _Layer(2**step, step == merge, 2**merge)
        for merge in range(1, depth + 1)
        for step in range(merge, 0, -1)
    ]


def _compact(held: Contest) -> tuple[Tensor, Tensor]:
    """Each candidate's lane [..., N], competitors first and in order; heights by lane [..., P]."""
    n = held.competes.shape[-1]
    ahead = held.competes.cumsum(-1)
    behind = held.rivals + torch.arange(n, device=ahead.device) - ahead
    lanes = torch.where(held.competes, ahead - 1, behind)
    heights = torch.zeros_like(held.heights).scatter(-1, lanes, held.heights)
    padding = 2 ** math.ceil(math.log2(max(n, 1))) - n
    return lanes, torch.nn.functional.pad(heights, (0, padding))


def _compare(layer: _Layer, heights: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of staying in place [..., P / width, width / 2], and the heights after the layer."""
    lane = torch.arange(heights.shape[-1], device=heights.device)
    middle = lane // layer.merged * layer.merged + layer.merged // 2
    _, needed = _pairs(layer, torch.maximum(lane, middle))
    first, second = _pairs(layer, heights)
    weight = torch.atan(first - second) / math.pi + 0.5
    # Nobody stands on the second lane, or in the half that this block is merged with.
    weight = weight.masked_fill(rivals.unsqueeze(-1) <= needed, 1.0)
    return weight, _unpaired(layer, second.lerp(first, weight), first.lerp(second, weight))


def _pairs(layer: _Layer, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [..., P] on the first and on the second lane of each comparator."""
    blocks = values.unflatten(-1, (-1, layer.width))
    first, second = blocks.chunk(2, -1)
    return first, second.flip(-1) if layer.mirrored else second


def _unpaired(layer: _Layer, first: Tensor, second: Tensor) -> Tensor:
    """Undo `_pairs`."""
    return torch.cat((first, second.flip(-1) if layer.mirrored else second), -1).flatten(-2)
