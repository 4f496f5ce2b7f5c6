"""Relaxed permutation matrices in plain numpy and float64, entry by entry: slow and dense."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def softmax(logits: Float64) -> Float64:
    weights = np.exp(logits - logits.max())
    result: Float64 = weights / weights.sum()
    return result


def neuralsort(row: Float64, tau: float) -> Float64:
    n = len(row)
    distances = np.array([sum(abs(a - b) for b in row) for a in row])
    return np.array([softmax(((n + 1 - 2 * i) * row - distances) / tau) for i in range(1, n + 1)])


def softsort(row: Float64, tau: float) -> Float64:
    return np.array([softmax(-abs(place - row) / tau) for place in sorted(row, reverse=True)])


def comparators(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Of a bitonic network for lanes first to end - 1 of any number, the larger score to the left.

    The left half is the largest power of two below the number of lanes.
    """
    if end - first > 1:
        half = 2 ** math.ceil(math.log2(end - first) - 1)
        yield from comparators(first, first + half)
        yield from comparators(first + half, end)
        mirror = 2 * first + 2 * half - 1
        yield from ((a, mirror - a) for a in range(first, first + half) if mirror - a < end)
        yield from clean(first, first + half, end)
        yield from clean(first + half, first + 2 * half, end)


def clean(first: int, last: int, end: int) -> Iterator[tuple[int, int]]:
    half = (last - first) // 2
    if half:
        yield from ((a, a + half) for a in range(first, first + half) if a + half < end)
        yield from clean(first, first + half, end)
        yield from clean(first + half, last, end)


def diffsort(row: Float64, tau: float) -> Float64:
    matrix, heights = np.eye(len(row)), row / tau
    for a, b in comparators(0, len(row)):
        swap = np.eye(len(row))
        stay = math.atan(heights[a] - heights[b]) / math.pi + 0.5
        swap[a, a] = swap[b, b] = stay
        swap[a, b] = swap[b, a] = 1 - stay
        matrix, heights = swap @ matrix, swap @ heights
    return matrix


def soft_mask(
    permutation: Callable[[Float64, float], Float64],
    row: Float64,
    k: int,
    tau: float,
    valid: NDArray[np.bool_] | None = None,
) -> Float64:
    """Sum of the first k rows of the matrix over the valid entries, cut off at 1: [N]."""
    members = np.arange(len(row)) if valid is None else np.flatnonzero(valid)
    mask = np.zeros(len(row))
    if k >= len(members):
        mask[members] = 1
    elif k > 0:
        mask[members] = permutation(row[members], tau)[:k].sum(0).clip(0, 1)
    return mask
