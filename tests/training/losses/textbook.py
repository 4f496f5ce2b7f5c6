"""The losses candidate by candidate, on scalars: slow, and as their formulas are written.

A request is `Request`, whose lists hold its valid candidates in the order of their slots and, for
every stage, their scores as tensors without dimensions, so that autograd runs through scalars.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from operators import OPERATORS
from operators.registry import MIXED
from tests.operators.dense import comparators
from tests.training.losses.cases import ENTRY_DEPTHS, KEEPS, TRUTH, Case

Row = list[Tensor]
Matrix = list[Row]
FLOOR = 1e-6


class Request(NamedTuple):
    scores: list[Row]
    """Of each stage."""
    grades: list[float]
    depth: list[int]
    relevant: list[bool]
    weight: float

    @property
    def n(self) -> int:
        return len(self.grades)


def requests(case: Case) -> list[Request]:
    grades, depth, relevant, valid, weights = case.judgments
    result = []
    for b in range(len(valid)):
        slots = [j for j in range(valid.shape[1]) if valid[b, j]]
        result.append(
            Request(
                [[scores[b, j] for j in slots] for scores in case.scores],
                [grades[b, j].item() for j in slots],
                [int(depth[b, j]) for j in slots],
                [bool(relevant[b, j]) for j in slots],
                1.0 if weights is None else weights[b].item(),
            )
        )
    return result


def softplus(x: Tensor) -> Tensor:
    return (1 + x.exp()).log()


def mean(weighted: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Of pairs of a weight and a value."""
    if not weighted:
        return torch.zeros((), dtype=torch.float64)
    return sum((w * value for w, value in weighted), torch.zeros(())) / sum(w for w, _ in weighted)


def kth(row: Row, k: int) -> Tensor:
    """The k-th largest; those tied with it share its gradient."""
    value = sorted((x.item() for x in row), reverse=True)[k - 1]
    tied = [x for x in row if x.item() == value]
    return sum(tied, torch.zeros(())) / len(tied)


def bce(case: Case, stages: int) -> list[Tensor]:
    return [
        mean(
            [
                (r.weight, softplus(x) - y * x)
                for r in requests(case)
                for x, d, y in zip(r.scores[t], r.depth, r.relevant, strict=True)
                if d >= ENTRY_DEPTHS[stages][t]
            ]
        )
        for t in range(stages)
    ]


def conditional(case: Case, stages: int, tau: float) -> list[Tensor]:
    """At the best shift of every request and cut, where the slope of the loss by it is 0."""
    cuts = sorted({d for r in requests(case) for d in r.depth})[1:-1]
    losses = []
    for t in range(stages):
        loss = mean([term for r in requests(case) for term in _cut(r, t, r.relevant, tau)])
        for cut in cuts:
            terms = [
                term
                for r in requests(case)
                for term in _cut(r, t, [float(d >= cut) for d in r.depth], tau)
            ]
            loss = loss + 0.3 * mean(terms)
        losses.append(loss)
    return losses


def _cut(r: Request, stage: int, labels: Sequence[float], tau: float) -> list[tuple[float, Tensor]]:
    """What each candidate of a request costs, if it has both labels."""
    positives = sum(labels)
    if not 0 < positives < r.n:
        return []
    low, high = -100.0, 100.0
    for _ in range(100):
        shift = (low + high) / 2
        total = sum(1 / (1 + math.exp((shift - x.item()) / tau)) for x in r.scores[stage])
        low, high = (shift, high) if total > positives else (low, shift)
    z = [(x - low) / tau for x in r.scores[stage]]
    return [(r.weight, softplus(z_j) - y * z_j) for z_j, y in zip(z, labels, strict=True)]


def icc(case: Case, stages: int, sigma: float) -> list[Tensor]:
    losses = []
    for r in requests(case):
        ensemble = []
        for j in range(r.n):
            score, alive = torch.zeros(()), torch.ones(())
            for t, keep in enumerate(KEEPS[stages]):
                x, lift = r.scores[t][j], 2.0**t if stages == 3 else 1.0
                kept = torch.ones(())
                if r.n > keep:
                    kept = 1 / (1 + ((kth(r.scores[t], keep) - x) / sigma).exp())
                score = score + lift * alive * (kept if t == stages - 1 else 1 - kept) * x
                alive = alive * kept
            ensemble.append(score)
        pairs = [
            softplus(ensemble[j] - ensemble[i])
            for i in range(r.n)
            for j in range(r.n)
            if r.grades[i] > r.grades[j]
        ]
        if r.n:
            losses.append((r.weight, sum(pairs, torch.zeros(())) / r.n**2))
    return [mean(losses)]


def rankflow(case: Case, stages: int) -> list[Tensor]:
    entries: list[list[tuple[float, Tensor]]] = [[] for _ in range(stages)]
    errors: list[list[tuple[float, Tensor]]] = [[] for _ in range(stages)]
    orders: list[list[tuple[float, Tensor]]] = [[] for _ in range(stages)]
    for r in requests(case):
        passed = list(range(r.n))
        for t in range(stages):
            x = r.scores[t]
            entries[t] += [(r.weight, softplus(x[j]) - r.relevant[j] * x[j]) for j in passed]
            if t == stages - 1:
                break
            passed = best(x, passed, KEEPS[stages][t])
            teacher = [value.detach() for value in r.scores[t + 1]]
            errors[t] += [(r.weight, (x[j] - teacher[j]) ** 2) for j in passed]
            chosen = best(teacher, passed, KEEPS[stages][t + 1])
            others = [j for j in passed if j not in chosen]
            if stages == 3 and others:
                lead = sum(x[j] for j in others) / len(others) - sum(x[j] for j in chosen) / len(
                    chosen
                )
                assert isinstance(lead, Tensor)
                orders[t].append((r.weight, softplus(lead)))
    return [mean(entries[t]) + mean(errors[t]) + mean(orders[t]) for t in range(stages)]


def best(row: Row, among: list[int], keep: int) -> list[int]:
    """The `keep` best, and whoever is tied with the last of them."""
    if len(among) <= keep:
        return among
    cut = sorted((row[j].item() for j in among), reverse=True)[keep - 1]
    return [j for j in among if row[j].item() >= cut]


def fs_ranknet(case: Case, stages: int) -> list[Tensor]:
    return [
        sum(
            (
                mean(
                    [
                        (r.weight, softplus(r.scores[t][j] - r.scores[t][i]))
                        for r in requests(case)
                        for i in range(r.n)
                        for j in range(r.n)
                        if r.depth[i] == level > r.depth[j]
                    ]
                )
                for level in range(1, stages + 3)
            ),
            torch.zeros(()),
        )
        for t in range(stages)
    ]


def fs_lambdaloss(case: Case, stages: int, top: int) -> list[Tensor]:
    def discount(place: int) -> float:
        return 1 / math.log(place + 1)

    def pair(t: int, r: Request, i: int, j: int) -> Tensor:
        ideal = sum(g * discount(p) for p, g in enumerate(sorted(r.grades, reverse=True), start=1))
        order = sorted(range(r.n), key=lambda c: (-r.scores[t][c].item(), c))
        a, b = order.index(i) + 1, order.index(j) + 1
        shift = discount(abs(a - b)) - discount(abs(a - b) + 1) if min(a, b) <= top else 0.0
        swap = abs(discount(a) * (a <= top) - discount(b) * (b <= top))
        gain = (r.grades[i] - r.grades[j]) / ideal
        return 2 * gain * (0.2 * shift + 0.8 * swap) * softplus(r.scores[t][j] - r.scores[t][i])

    return [
        mean(
            [
                (r.weight, sum((pair(t, r, i, j) for i, j in ordered(r)), torch.zeros(())))
                for r in requests(case)
                if r.n
            ]
        )
        for t in range(stages)
    ]


def ordered(r: Request) -> list[tuple[int, int]]:
    return [(i, j) for i in range(r.n) for j in range(r.n) if r.grades[i] > r.grades[j]]


def neuralsort(row: Row, tau: float) -> Matrix:
    n = len(row)
    far = [sum(((a - b).abs() for b in row), torch.zeros(())) for a in row]
    return [softmax([((n + 1 - 2 * i) * x - a) / tau for x, a in zip(row, far, strict=True)])
            for i in range(1, n + 1)]  # fmt: skip


def softsort(row: Row, tau: float) -> Matrix:
    falling = sorted(row, key=lambda x: -x.item())
    return [softmax([-(place - x).abs() / tau for x in row]) for place in falling]


def softmax(row: Row) -> Row:
    powers = [x.exp() for x in row]
    return [power / sum(powers, torch.zeros(())) for power in powers]


def diffsort(row: Row, tau: float) -> Matrix:
    heights = [x / tau for x in row]
    matrix = list(torch.eye(len(row), dtype=torch.float64))
    for a, b in comparators(0, len(row)):
        stay = (heights[a] - heights[b]).atan() / math.pi + 0.5
        for lanes in (heights, matrix):
            first, second = lanes[a], lanes[b]
            lanes[a], lanes[b] = (
                stay * first + (1 - stay) * second,
                stay * second + (1 - stay) * first,
            )
    return [list(place) for place in matrix]


SORTS: dict[str, Callable[[Row, float], Matrix]] = {
    "neuralsort": neuralsort, "softsort": softsort, "diffsort": diffsort,
}  # fmt: skip


def shares(matrix: Matrix, k: int) -> tuple[Row, Row]:
    n = len(matrix)
    above, below = [], []
    for j in range(n):
        up = sum((matrix[i][j] for i in range(min(k, n))), torch.zeros(()))
        down = sum((matrix[i][j] for i in range(min(k, n), n)), torch.zeros(()))
        column = (up + down).detach() + FLOOR
        above.append(up / column)
        below.append(down / column)
    return above, below


def cut_loss(above: Row, below: Row, r: Request) -> Tensor:
    right = [u if y else d for u, d, y in zip(above, below, r.relevant, strict=True)]
    return sum((-(p + FLOOR).log() for p in right), torch.zeros(())) / r.n


def arf(
    case: Case, stages: int, sort: str, tau: float, *, normalised: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Relax and global of every stage."""
    relaxes, orders = [], []
    for t, keep in enumerate(KEEPS[stages]):
        relax, order = [], []
        for r in requests(case):
            if r.n == 0:
                continue
            matrix = SORTS[sort](r.scores[t], tau)
            order.append((r.weight, cross_of_order(matrix, r)))
            if r.n <= keep:
                continue
            if normalised:
                relax.append((r.weight, cut_loss(*shares(matrix, keep), r)))
                continue
            found = [sum((matrix[i][j] for i in range(keep)), torch.zeros(())) / keep
                     for j in range(r.n) if r.relevant[j]]  # fmt: skip
            relax.append(
                (r.weight, -sum(((p + FLOOR).log() for p in found), torch.zeros(())) / r.n)
            )
        relaxes.append(mean(relax))
        orders.append(mean(order))
    return relaxes, orders


def cross_of_order(matrix: Matrix, r: Request) -> Tensor:
    falling = sorted(r.grades, reverse=True)
    total = torch.zeros(())
    for i, grade in enumerate(falling):
        tied = [j for j in range(r.n) if r.grades[j] == grade]
        for j in tied:
            total = total - (matrix[i][j] + FLOOR).log() / len(tied)
    return total / r.n**2


def lcron(case: Case, stages: int, sort: str, tau: float) -> tuple[list[Tensor], Tensor]:
    """Single of every stage, and joint."""
    singles: list[list[tuple[float, Tensor]]] = [[] for _ in range(stages)]
    joints = []
    for r in requests(case):
        if r.n <= TRUTH:
            continue
        cuts = [shares(SORTS[sort](r.scores[t], tau), TRUTH) for t in range(stages)]
        for t, cut in enumerate(cuts):
            singles[t].append((r.weight, cut_loss(*cut, r)))
        above = [math_product([cut[0][j] for cut in cuts]) for j in range(r.n)]
        below = [1 - math_product([1 - cut[1][j] for cut in cuts]) for j in range(r.n)]
        joints.append((r.weight, cut_loss(above, below, r)))
    return [mean(single) for single in singles], mean(joints)


def math_product(row: Row) -> Tensor:
    product = torch.ones(())
    for x in row:
        product = product * x
    return product


def threshold(case: Case, stages: int, operator: str, tau: float) -> tuple[list[Tensor], Tensor]:
    """Loss of every stage, and joint. The soft mask is the operator's, request by request."""
    singles: list[list[tuple[float, Tensor]]] = [[] for _ in range(stages)]
    joints = []
    for r in requests(case):
        if r.n <= TRUTH:
            continue
        masks = [membership(r.scores[t], operator, tau) for t in range(stages)]
        for j, y in enumerate(r.relevant):
            for t in range(stages):
                singles[t].append((r.weight, coin(masks[t][j], y=y)))
            joints.append((r.weight, coin(math_product([mask[j] for mask in masks]), y=y)))
    return [mean(single) for single in singles], mean(joints)


def coin(p: Tensor, *, y: bool) -> Tensor:
    return -(p if y else 1 - p).log()


def membership(row: Row, operator: str, tau: float) -> Row:
    if operator == "dftopk":
        theta = (kth(row, TRUTH) + kth(row, TRUTH + 1)) / 2
        return [1 / (1 + ((theta - x) / tau).exp()) for x in row]
    soft = OPERATORS[operator].topk(torch.stack(row), TRUTH, tau)
    if OPERATORS[operator].logits is None:
        soft = MIXED + (1 - 2 * MIXED) * soft
    return list(soft)
