"""Requests in chunks: matrices of pairs of candidates are made where they stay in a cache.

Legend: N candidates.
"""

from collections.abc import Iterator

PAIRS = 2**18
"""Pairs of candidates of a chunk: 1 MiB of float32 a matrix."""


def chunks(requests: int, n: int) -> Iterator[slice]:
    """Slices of the requests, each with at most `PAIRS` pairs of their N candidates, or of one."""
    step = max(1, PAIRS // max(n * n, 1))
    for first in range(0, requests, step):
        yield slice(first, first + step)
