"""NeuralSort and SoftSort: a soft top-k as the first k rows of a relaxed permutation matrix.

Row i of the matrix is a softmax that says which candidate takes place i; the soft mask adds up the
rows of the k places. Only those rows are made: O(kN) time and memory for an int k, O(N^2) for a
tensor of them. `neuralsort` and `softsort` give the whole matrix.

Rows sum to 1 and columns do not, so near a cluster of scores one candidate may be expected in more
than one place. The sum is cut off at 1: such an entry counts as selected and has no gradient of its
own, which also holds for one that should not be there; the smaller tau, the more there are. (The
published losses differ: difftopk's uses the sum as it is, that of the DFTopK authors divides by the
sum of the whole column and takes no gradient through it, at O(N^2).) Before the cut the soft mask
sums to k, after it to at most k. It is not monotone in the score: the best candidate may get less
than the second, whose score is near to more places.

Edges are those of `operators.dftopk`, and values and gradients do not depend on the order of the
candidates, ties included. A valid entry at +inf or -inf is left out of the comparison.

Legend: ... any leading dimensions ("rows"), K places, N candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from operators.arguments import check_tau
from operators.contest import Contest, certify, conclude, contest
from operators.ranking import rank


def neuralsort_topk(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Soft top-k membership by NeuralSort (Grover et al. 2019, arXiv 1903.08850).

    Row i of n valid candidates is `softmax(((n + 1 - 2i) s - A) / tau)`, `A_j = sum_l |s_j - s_l|`.

    Args:
        scores: floating point [..., N].
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        tau: temperature, above 0, in the unit of the scores; towards 0 the mask becomes hard. The
            coefficients grow with n, so it takes a larger tau than other operators do.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N] in [0, 1], in the type of the scores.

    Raises:
        ValueError: an argument of a wrong type, shape or range.

    >>> neuralsort_topk(torch.tensor([4.0, 2.0, 0.0]), k=1)
    tensor([8.8054e-01, 1.1917e-01, 2.9539e-04])
    """
    check_tau(tau)
    ranking = rank(scores, k, mask)
    held = contest(ranking, tau)
    soft = _first_places(_neuralsort_logits(held, _places(scores, k)), held)
    return conclude(soft, held, ranking, mask).to(scores.dtype)


def softsort_topk(
    scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """Soft top-k membership by SoftSort (Prillo & Eisenschlos 2020, arXiv 2006.16038).

    Row i is `softmax(-|s_(i) - s| / tau)` with s_(i) the i-th largest score. Takes the arguments,
    gives the result and raises the errors of `neuralsort_topk`.

    >>> softsort_topk(torch.tensor([4.0, 2.0, 0.0]), k=1)
    tensor([0.8668, 0.1173, 0.0159])
    """
    check_tau(tau)
    ranking = rank(scores, k, mask)
    held = contest(ranking, tau)
    soft = _first_places(_softsort_logits(held, _places(scores, k)), held)
    return conclude(soft, held, ranking, mask).to(scores.dtype)


def neuralsort(scores: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """The matrix whose first k rows `neuralsort_topk` adds up, as it is: nothing is cut off at 1.

    Args:
        scores: floating point [..., N].
        tau: temperature, above 0, in the unit of the scores.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.

    Returns:
        [..., N, N] in the type of the scores: place by candidate. The rows of the places of valid
        entries sum to 1; other rows, and the columns of invalid entries, are 0. NaN where a valid
        score is not finite.

    Raises:
        ValueError: an argument of a wrong type, shape or range.

    >>> neuralsort(torch.tensor([4.0, 2.0]), tau=2.0)
    tensor([[0.7311, 0.2689],
            [0.2689, 0.7311]])
    """
    check_tau(tau)
    ranking = rank(scores, 0, mask)
    held = contest(ranking, tau)
    distances, n = _distances(held), scores.shape[-1]
    place = torch.arange(1, n + 1, device=scores.device)
    slope = (n + 1 - 2 * place).to(distances.dtype)
    base = (held.rivals - n) * held.heights - distances
    # Far below all logits, and not -inf: a row in which nobody competes must not become 0 / 0.
    base = base.masked_fill(~held.competes, torch.finfo(base.dtype).min / 4)
    # As a product of thin matrices neither the logits nor their gradient need a copy.
    with torch.autocast(scores.device.type, enabled=False):
        sides = torch.stack((held.heights, base), -2)
        logits = torch.stack((slope, torch.ones_like(slope)), -1) @ sides
    return certify(logits.softmax(-1), held, ranking, mask).to(scores.dtype)


def softsort(scores: Tensor, tau: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """The matrix whose first k rows `softsort_topk` adds up, as it is: nothing is cut off at 1.

    Takes the arguments, gives the result and raises the errors of `neuralsort`.

    >>> softsort(torch.tensor([4.0, 2.0]), tau=2.0)
    tensor([[0.7311, 0.2689],
            [0.2689, 0.7311]])
    """
    check_tau(tau)
    ranking = rank(scores, 0, mask)
    held = contest(ranking, tau)
    rows = _rows(_softsort_logits(held, scores.shape[-1]), held)
    return certify(rows, held, ranking, mask).to(scores.dtype)


def _neuralsort_logits(held: Contest, places: int) -> Tensor:
    """Logits of the first places, [..., K, N]."""
    place = torch.arange(1, places + 1, device=held.heights.device)
    slope = (held.rivals + 1 - 2 * place).to(held.heights.dtype)
    return slope.unsqueeze(-1) * held.heights.unsqueeze(-2) - _distances(held).unsqueeze(-2)


def _distances(held: Contest) -> Tensor:
    """Sum of each candidate's distances from its rivals, [..., N]."""
    order = _falling(held)
    wins = _signed_sum(order, held.competes.to(held.heights.dtype))
    # |a - b| = sign(a - b) (a - b), and the sign is a constant: exact in value and derivative.
    return wins * held.heights - _signed_sum(order, held.heights)


def _softsort_logits(held: Contest, places: int) -> Tensor:
    """Logits of the first places, [..., K, N]."""
    ordered = _sorted_heights(held, places)
    return -(ordered.unsqueeze(-1) - held.heights.unsqueeze(-2)).abs()


def _places(scores: Tensor, k: int | Tensor) -> int:
    """Places that an undecided row can ask for; those of a tensor are not looked at."""
    most = max(scores.shape[-1] - 1, 0)
    return most if isinstance(k, Tensor) else min(max(k, 0), most)


def _rows(logits: Tensor, held: Contest) -> Tensor:
    """Who takes each place [..., K, N]: the softmax over those that compete."""
    # The lowest number and not -inf: a row in which nobody competes must not become 0 / 0.
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~held.competes.unsqueeze(-2), lowest).softmax(-1)


def _first_places(logits: Tensor, held: Contest) -> Tensor:
    """Sum of the softmax rows [..., K, N] of the places at hand, [..., N], cut off at 1."""
    rows = _rows(logits, held)
    asked = torch.arange(logits.shape[-2], device=logits.device) < held.places
    return (rows * asked.unsqueeze(-1).to(rows.dtype)).sum(-2).clamp(max=1)


class _Order(NamedTuple):
    """Candidates from the highest to the lowest, those that do not compete last: int64 [..., N]."""

    candidate: Tensor
    """Which candidate comes at this position."""
    start: Tensor
    """First position of the entries tied with the one at this position."""
    end: Tensor
    """The position after the last of them."""


def _falling(held: Contest) -> _Order:
    depths = (-held.heights.detach()).masked_fill(~held.competes, torch.inf)
    ordered, candidate = depths.sort(dim=-1)
    ordered = ordered.contiguous()
    start = torch.searchsorted(ordered, ordered)
    return _Order(candidate, start, torch.searchsorted(ordered, ordered, right=True))


def _signed_sum(order: _Order, values: Tensor) -> Tensor:
    """`sum_l sign(h_j - h_l) v_l` for each candidate j, in O(N log N); linear in v, [..., N]."""
    running = torch.nn.functional.pad(values.gather(-1, order.candidate).cumsum(-1), (1, 0))
    above, not_below = running.gather(-1, order.start), running.gather(-1, order.end)
    signed = running[..., -1:] - not_below - above
    return torch.zeros_like(signed).scatter(-1, order.candidate, signed)


def _sorted_heights(held: Contest, places: int) -> Tensor:
    """The highest `places` in falling order, [..., K]; ties share the gradient equally."""
    order = _falling(held)
    ordered = held.heights.gather(-1, order.candidate)
    # A tied group's mean is its value, and its gradient is what each gets. As a difference of the
    # group from itself the mean is exactly 0, so that it brings gradient and no rounding.
    zeros = ordered - ordered.detach()
    groups = torch.zeros_like(zeros).scatter_add(-1, order.start, zeros)
    shared = groups.gather(-1, order.start) / (order.end - order.start)
    return (ordered.detach() + shared)[..., :places]
