"""Caps: how many places of an answer may go to items of the same kind. Legend: N candidates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.features import OOV, Int64

_UNBOUNDED = 1 << 30


class Cap:
    """Places left for each value of one item field.

    Items whose value is not known are not of the same kind and are never capped.
    """

    def __init__(self, name: str, codes_N: Int64, most: int) -> None:
        """Give every value of the field `most` places.

        Args:
            name: of the rule.
            codes_N: value of each candidate, `OOV` where it is not known.
            most: at least 1.
        """
        self.name = name
        self._codes_N = codes_N
        self._left_C = np.full(int(codes_N.max(initial=OOV)) + 1, most, dtype=np.int64)
        self._left_C[OOV] = _UNBOUNDED

    def admits(self, candidates: Int64 | int) -> NDArray[np.bool_]:
        """Whether there is a place left for each of these candidates."""
        admitted: NDArray[np.bool_] = self._left_C[self._codes_N[candidates]] > 0
        return admitted

    def take(self, candidate: int) -> None:
        """A candidate got a place."""
        self._left_C[self._codes_N[candidate]] -= 1


class Caps:
    """Several caps that hold at the same time."""

    def __init__(self, caps: Sequence[Cap]) -> None:
        """Keep all of `caps`."""
        self._caps = tuple(caps)

    def __bool__(self) -> bool:
        """Whether there is anything to keep."""
        return bool(self._caps)

    def admits(self, candidates: Int64) -> NDArray[np.bool_]:
        """Whether no cap stands against each of these candidates."""
        admitted = np.ones(len(candidates), dtype=np.bool_)
        for cap in self._caps:
            admitted &= cap.admits(candidates)
        return admitted

    def against(self, candidate: int) -> tuple[str, ...]:
        """Names of the caps that stand against a candidate."""
        return tuple(cap.name for cap in self._caps if not cap.admits(candidate))

    def take(self, candidate: int) -> None:
        """A candidate got a place."""
        for cap in self._caps:
            cap.take(candidate)
