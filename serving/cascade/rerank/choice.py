"""Choice: which candidates get a place, and in which order. Legend: N candidates, P pool."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from serving.cascade.rerank.caps import Caps
from serving.cascade.rerank.diversity import Diversity
from training.features import Int64

CAP_BROKEN = "cap_broken"
"""Too few other candidates were left, so that more items of a kind are shown than the cap says."""


class Pick(NamedTuple):
    """A candidate that got a place, and what of the choice itself moved it."""

    candidate: int
    rules: tuple[str, ...] = ()


class Choice:
    """Chooses among N candidates that are in order of value, the best first."""

    def __init__(self, size: int, caps: Caps) -> None:
        """Choose of `size` candidates under `caps`."""
        self._caps = caps
        self._free_N = np.ones(size, dtype=np.bool_)
        self.picks: list[Pick] = []

    def reserve(self, candidate: int) -> None:
        """Give a candidate a place of its own, which counts for the caps but is no pick."""
        self._free_N[candidate] = False
        self._caps.take(candidate)

    def free(self) -> Int64:
        """Candidates that may be chosen now, the best first."""
        free = np.flatnonzero(self._free_N)
        return free[self._caps.admits(free)] if self._caps else free

    def diverse(self, measure: Diversity, pool_P: Int64, most: int) -> None:
        """Choose up to `most` of a pool, each time the one that gains most."""
        for _ in range(most):
            open_P = self._free_N[pool_P]
            if self._caps:
                open_P &= self._caps.admits(pool_P)
            first = int(open_P.argmax())
            if not open_P[first]:
                return
            best = int(np.where(open_P, measure.gains(), -np.inf).argmax())
            measure.take(best)
            self._take(int(pool_P[best]), () if best == first else (measure.name,))

    def by_value(self, most: int) -> None:
        """Choose up to `most`, the best first."""
        if not self._caps:
            for candidate in self.free()[:most].tolist():
                self._take(candidate)
            return
        free = self.free().tolist()
        for candidate in free:
            if most == 0:
                return
            if not self._caps.against(candidate):
                self._take(candidate)
                most -= 1

    def break_caps(self, most: int) -> tuple[str, ...]:
        """Choose up to `most` whatever the caps say; the names of those that were broken."""
        broken: dict[str, None] = {}
        for candidate in np.flatnonzero(self._free_N)[:most].tolist():
            against = self._caps.against(candidate)
            broken |= dict.fromkeys(against)
            self._take(candidate, tuple(f"{CAP_BROKEN}:{name}" for name in against))
        return tuple(broken)

    def _take(self, candidate: int, rules: tuple[str, ...] = ()) -> None:
        self._free_N[candidate] = False
        self._caps.take(candidate)
        self.picks.append(Pick(candidate, rules))


def arranged(picks: Sequence[Pick], pinned: Mapping[int, Pick], num: int) -> list[Pick]:
    """Up to `num` picks in their order, around those pinned at places.

    A place that no pick is left for closes, and what is pinned behind it moves up.
    """
    order, rest = [], iter(picks)
    for position in range(num):
        pick = pinned.get(position) or next(rest, None)
        if pick is not None:
            order.append(pick)
    return order
