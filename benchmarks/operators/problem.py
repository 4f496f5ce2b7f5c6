"""The rows that every contender is given, and what it is to call it once.

Legend: B rows, N candidates.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

BYTES = 4
"""Of a float32 number."""

Turn = Callable[[], Tensor]
"""One forward and backward pass; returns what the forward pass gave."""


class Problem(NamedTuple):
    """Standard normal scores, and what losses and gradients need beside them; k = N/4."""

    scores: Tensor
    """float32 [B, N], a leaf whose gradient is the result."""
    labels: Tensor
    """bool [B, N], a quarter of them True, whatever the scores are."""
    targets: Tensor
    """The labels as float32."""
    upstream: Tensor
    """float32 [B, N], the gradient of a loss in the soft mask."""
    k: int

    @property
    def shape(self) -> tuple[int, int]:
        """B and N."""
        b, n = self.scores.shape
        return b, n

    def first(self, rows: int) -> "Problem":
        """The same with fewer rows."""
        scores = self.scores.detach()[:rows].requires_grad_()
        return Problem(
            scores, self.labels[:rows], self.targets[:rows], self.upstream[:rows], self.k
        )


def problem(b: int, n: int, device: str = "cpu", seed: int = 0) -> Problem:
    """A problem of B rows; the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(b, n, generator=generator).to(device).requires_grad_()
    labels = (torch.rand(b, n, generator=generator) < 0.25).to(device)
    upstream = torch.randn(b, n, generator=generator).to(device)
    return Problem(scores, labels, labels.float(), upstream, n // 4)


class Contender(NamedTuple):
    """Something that is timed."""

    name: str
    prepare: Callable[[Problem], Turn]
    """Does what need not be done in every step, such as building a network."""
    numbers: Callable[[int, int], float]
    """About how many numbers it holds at once for a row, from N and k."""
    setting: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered around its turns, outside of the time."""
    ours: bool = True

    def gigabytes(self, b: int, n: int) -> float:
        """About what it holds at once."""
        return b * self.numbers(n, n // 4) * BYTES / 1e9


def backward(problem: Problem, value: Tensor, upstream: Tensor | None = None) -> Tensor:
    """Make the gradient of the scores anew."""
    problem.scores.grad = None
    value.backward(upstream)
    return value
