"""How often the terms of a top-k loss pull a score in opposite directions, operator by operator.

The DFTopK paper (arXiv 2510.11472) holds against losses on relaxed permutation matrices that rows
which sum to 1 couple all candidates, so that the gradients of one candidate's term and another's
conflict, and that DFTopK, which drops the normalisation, confines this to the threshold's two
neighbours. This makes a number of it.

Definition. The loss of a row is L = sum_m l_m, with l_m the cross-entropy of label y_m and
membership q_m = MIXED + (1 - 2 MIXED) p_m (as losses take it of an operator without logits). Let
C[m, i] = -d l_m / d s_i: how the term of candidate m moves the score of candidate i in a step of
gradient descent. On score i, candidate j opposes i if C[j, i] and i's own C[i, i] have opposite
signs. A pair {i, j} is opposed if j opposes i on score i or i opposes j on score j.

- any: share of the N (N - 1) / 2 pairs that are opposed, whatever the size, rounding (1e-12 of the
  row's largest contribution) left out;
- 1 %: the same, where a contribution counts if it is at least 1 % of the own one that it opposes;
- lost: 1 - sum_i |sum_m C[m, i]| / sum_i sum_m |C[m, i]|, the share of all gradient that cancels.

Data. Scores are standard normal, k = N/4, labels are the top k of 0.7 s + sqrt(0.51) noise. Each
operator gets the tau at which the mean of |p - hard top-k| is the softness asked for, so that
operators are compared where they are equally far from the hard mask. A mean over rows, and its
standard deviation over seeds.

What it means. It counts coupling: a loss that sums p to k must take from others what it gives to
one, so same-label pairs oppose by design there, and an opposed pair may still be right (both move
towards the top k, one of them less). Few opposed pairs do not mean that little gradient cancels:
DFTopK sends what all terms say of the threshold to two scores, so read both columns. A candidate
without own contribution (in a flat part, or a column sum cut off at 1) cannot be opposed, and a row
without any gradient loses none, which flatters operators with flat parts.

What it does not mean. It says nothing of accuracy, training speed, or data other than this.

Run with `python -m benchmarks.conflict`: prints a table and writes docs/conflict.png.

Legend: N candidates.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.hardware import machine, versions
from operators import MIXED, OPERATORS, TopK, hard_topk, topk_operator

SIZES = (16, 40, 160)
SOFTNESS = (0.02, 0.05, 0.1)
SEEDS = (0, 1, 2)
ROWS = 8
FLOOR = 1e-12
NOTABLE = 0.01
PERMUTED = ("neuralsort_topk", "softsort_topk", "diffsort_topk")
"""Operators that are sums of rows of a relaxed permutation: drawn with solid lines."""


class Conflict(NamedTuple):
    """Shares in [0, 1]; see the definition above."""

    any: float
    notable: float
    lost: float


class Case(NamedTuple):
    """One operator at one size and softness: each seed's tau and conflict."""

    operator: str
    n: int
    softness: float
    taus: list[float]
    conflicts: list[Conflict]

    def mean(self, share: str) -> float:
        """Mean over the seeds."""
        return statistics.mean(float(getattr(c, share)) for c in self.conflicts)

    def deviation(self, share: str) -> float:
        """Standard deviation over the seeds."""
        return statistics.stdev(float(getattr(c, share)) for c in self.conflicts)


def contributions(operator: TopK, row: Tensor, labels: Tensor, k: int, tau: float) -> Tensor:
    """C[m, i] of one row [N] with labels [N] in [0, 1]: [N, N]."""
    copies = row.expand(len(row), -1).clone().requires_grad_()
    member = MIXED + (1 - 2 * MIXED) * operator(copies, k, tau).diagonal()
    loss = -(labels * member.log() + (1 - labels) * (1 - member).log()).sum()
    (gradient,) = torch.autograd.grad(loss, copies)
    return -gradient


def conflict_of(contributed: Tensor) -> Conflict:
    """The three shares of one row's C [N, N], N at least 2."""
    n, size = len(contributed), contributed.abs()
    own = contributed.diagonal()
    real = size > FLOOR * size.max()
    opposed = (contributed * own < 0) & real & real.diagonal()
    notable = opposed & (size >= NOTABLE * own.abs())
    pairs = n * (n - 1) / 2
    of_pairs = [float((part | part.T).triu(1).sum() / pairs) for part in (opposed, notable)]
    total = float(size.sum())
    lost = 1 - float(contributed.sum(0).abs().sum()) / total if total else 0.0
    return Conflict(of_pairs[0], of_pairs[1], lost)


def tau_at(operator: TopK, scores: Tensor, k: int, softness: float) -> float:
    """The temperature at which the mean of |p - hard top-k| is `softness`, by bisection."""
    hard, low, high = hard_topk(scores, k), 1e-5, 1e5
    for _ in range(30):
        tau = float((low * high) ** 0.5)
        softer = float((operator(scores, k, tau) - hard).abs().mean()) > softness
        low, high = (low, tau) if softer else (tau, high)
    return high


def measure(name: str, operator: TopK, n: int, softness: float) -> Case:
    """One case, over all seeds."""
    taus, conflicts = [], []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        scores, noise = torch.randn(2, ROWS, n, generator=generator, dtype=torch.float64)
        labels = hard_topk(0.7 * scores + 0.51**0.5 * noise, n // 4)
        tau = tau_at(operator, scores, n // 4, softness)
        rows = [
            conflict_of(contributions(operator, row, label, n // 4, tau))
            for row, label in zip(scores, labels, strict=True)
        ]
        taus.append(tau)
        conflicts.append(Conflict(*(statistics.mean(share) for share in zip(*rows, strict=True))))
    return Case(name, n, softness, taus, conflicts)


def draw(cases: list[Case], path: Path) -> None:
    """Both shares of pairs and of gradient against softness, a column a size."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(SIZES), figsize=(11, 6.5), sharex=True, sharey="row", squeeze=False
    )
    labels = {"notable": "pairs opposed (1 %)", "lost": "gradient that cancels"}
    for line, (share, label) in zip(axes, labels.items(), strict=True):
        line[0].set_ylabel(f"share of {label}")
        for axis, n in zip(line, SIZES, strict=True):
            for name in dict.fromkeys(case.operator for case in cases):
                mine = [c for c in cases if c.operator == name and c.n == n]
                axis.errorbar(
                    [c.softness for c in mine],
                    [c.mean(share) for c in mine],
                    [c.deviation(share) for c in mine],
                    marker="o",
                    markersize=4,
                    capsize=3,
                    linestyle="-" if name in PERMUTED else "--",
                    label=name,
                )
            axis.set_title(f"N = {n}, k = {n // 4}")
            axis.grid(alpha=0.3)
        line[0].set_ylim(bottom=0)  # of the whole line, once all of it is drawn
    for axis in axes[1]:
        axis.set_xlabel("softness: mean |p - hard top-k|")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=len(names), frameon=False)
    figure.suptitle("Terms of the loss that pull a score in opposite directions")
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print hardware, versions, command and the table; write the picture."""
    torch.set_num_threads(1)
    write, start = sys.stdout.write, time.perf_counter()
    write(f"{machine()}; 1 thread\n{versions()}, float64\n")
    write(f"python -m benchmarks.conflict: {ROWS} rows, {len(SEEDS)} seeds, k = N/4\n\n")
    write("% of pairs opposed, % of gradient that cancels: mean (deviation of seeds)\n\n")
    write(f"{'N':>4} {'soft':>5}  {'operator':<16}{'tau':>9}")
    write("".join(f"{title:>14}" for title in ("any", "1 %", "lost")) + "\n")
    trainable = [name for name, operator in OPERATORS.items() if operator.trainable]
    cases = []
    for n in SIZES:
        for softness in SOFTNESS:
            for name in trainable:
                case = measure(name, topk_operator(name), n, softness)
                cases.append(case)
                write(f"{n:>4} {softness:>5}  {name:<16}{statistics.mean(case.taus):>9.3g}")
                for share in Conflict._fields:
                    mean, spread = 100 * case.mean(share), 100 * case.deviation(share)
                    write(f"{f'{mean:.1f} ({spread:.1f})':>14}")
                write("\n")
    draw(cases, Path("docs/conflict.png"))
    write(f"\ndocs/conflict.png, {time.perf_counter() - start:.0f} s\n")


if __name__ == "__main__":
    main()
