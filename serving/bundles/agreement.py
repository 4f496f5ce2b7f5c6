"""Agreement: how alike two answers to one request are."""

from collections.abc import Sequence
from typing import NamedTuple


class Agreement(NamedTuple):
    """Each from 0 (nothing alike) to 1 (the same), but for the correlation, which starts at -1."""

    overlap: float
    """Share of the items that both answers have."""
    first: float
    """1 where both begin with the same item."""
    rank_correlation: float | None
    """Spearman's, of the items that both have; None where they are fewer than two."""


def agreement(served: Sequence[str], candidate: Sequence[str]) -> Agreement:
    """Compare the items of two answers, each in its order and distinct.

    >>> agreement(["a", "b", "c", "d"], ["b", "a", "c", "e"])
    Agreement(overlap=0.75, first=0.0, rank_correlation=0.5)
    """
    place = {item: position for position, item in enumerate(candidate)}
    common = [item for item in served if item in place]
    longest = max(len(served), len(candidate))
    return Agreement(
        overlap=len(common) / longest if longest else 1.0,
        first=float(list(served[:1]) == list(candidate[:1])),
        rank_correlation=_spearman([place[item] for item in common]),
    )


def _spearman(places: Sequence[int]) -> float | None:
    n = len(places)
    if n < 2:
        return None
    ranks = {place: rank for rank, place in enumerate(sorted(places))}
    squares = sum((rank - ranks[place]) ** 2 for rank, place in enumerate(places))
    return 1 - 6 * squares / (n * (n * n - 1))
