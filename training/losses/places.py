"""Relaxed permutations of a request's candidates, and how much of each is above a cut.

Legend: B requests, N candidates.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from operators import diffsort, diffsort_topk, neuralsort, softsort
from training.losses.chunks import chunks

FLOOR = 1e-6
"""Added to a share before its logarithm and to a sum that is divided by, as published."""

Permutation = Callable[[Tensor, float, Tensor], Tensor]

PERMUTATIONS: Mapping[str, Permutation] = MappingProxyType(
    {"neuralsort": neuralsort, "softsort": softsort, "diffsort": diffsort}
)
"""Relaxed permutation matrices [B, N, N], place by candidate, of scores, tau and mask."""


class Shares(NamedTuple):
    """How much of each candidate [B, N] takes one of the first k places, and one of the rest."""

    above: Tensor
    below: Tensor


def sums(matrix_BNN: Tensor, k: int | Tensor) -> Shares:
    """Sums of the first k rows of a permutation matrix, and of the rest; k is one or int64 [B]."""
    place_N = torch.arange(matrix_BNN.shape[1], device=matrix_BNN.device)
    size_B1 = k.unsqueeze(1) if isinstance(k, Tensor) else place_N.new_tensor([[k]])
    above_BN = (place_N < size_B1).to(matrix_BNN.dtype)
    both_B2N = torch.stack((above_BN, 1 - above_BN), dim=1) @ matrix_BNN
    return Shares(*both_B2N.unbind(1))


def shares(matrix_BNN: Tensor, k: int | Tensor) -> Shares:
    """`sums` over the sum of the whole column, through which there is no gradient."""
    above_BN, below_BN = sums(matrix_BNN, k)
    column_BN = (above_BN + below_BN).detach() + FLOOR
    return Shares(above_BN / column_BN, below_BN / column_BN)


def relaxed_shares(
    scores_BN: Tensor, k: int | Tensor, sort: str, tau: float, valid_BN: Tensor
) -> Shares:
    """`shares` of the relaxed sort of scores.

    DiffSort's columns sum to 1, so its shares need no matrix; they must not be asked of a request
    with no more than k candidates, whose shares have no gradient.
    """
    if sort == "diffsort":
        above_BN = diffsort_topk(scores_BN, k, tau, valid_BN)
        return Shares(above_BN / (1 + FLOOR), (1 - above_BN) / (1 + FLOOR))
    permutation = PERMUTATIONS[sort]
    parts = [
        shares(
            permutation(scores_BN[chunk], tau, valid_BN[chunk]),
            k[chunk] if isinstance(k, Tensor) else k,
        )
        for chunk in chunks(*scores_BN.shape)
    ]
    return Shares(*(torch.cat(part) for part in zip(*parts, strict=True)))


def cut_cross_entropy(cut: Shares, truth_BN: Tensor, valid_BN: Tensor) -> Tensor:
    """`1/n sum_j -y_j log(above_j) - (1 - y_j) log(below_j)` over the n valid candidates, [B]."""
    right_BN = torch.where(truth_BN, cut.above, cut.below)
    return candidate_mean(-(right_BN + FLOOR).log(), valid_BN)


def candidate_mean(values_BN: Tensor, valid_BN: Tensor) -> Tensor:
    """Mean over the valid candidates of each request, [B]; 0 if there are none."""
    return values_BN.masked_fill(~valid_BN, 0.0).sum(1) / valid_BN.sum(1).clamp(min=1)


def label_permutation(grades_BN: Tensor, valid_BN: Tensor) -> Tensor:
    """The permutation matrix [B, N, N] that sorts by grade; equal grades share places equally.

    It is the mean over all orders that the grades allow, and what NeuralSort of the grades tends to
    as its temperature goes to 0.
    """
    beside_BNN = valid_BN.unsqueeze(2) & valid_BN.unsqueeze(1)
    mine_BN1, other_B1N = grades_BN.unsqueeze(2), grades_BN.unsqueeze(1)
    first_BN = (beside_BNN & (other_B1N > mine_BN1)).sum(2)
    tied_BN = (beside_BNN & (other_B1N == mine_BN1)).sum(2)
    place_N1 = torch.arange(grades_BN.shape[1], device=grades_BN.device).unsqueeze(1)
    first_B1N, end_B1N = first_BN.unsqueeze(1), (first_BN + tied_BN).unsqueeze(1)
    held_BNN = (place_N1 >= first_B1N) & (place_N1 < end_B1N)
    return held_BNN.to(grades_BN.dtype) / tied_BN.clamp(min=1).unsqueeze(1)
