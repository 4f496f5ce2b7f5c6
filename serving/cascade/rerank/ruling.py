"""Ruling: the rules that hold for one request, in the rows of one bundle.

Legend: N candidates, C codes of a field.
"""

from typing import NamedTuple

import numpy as np

from serving.cascade.items import Items, Mask
from training.features import Int64


class Meant(NamedTuple):
    """The items a rule is about."""

    rows: Int64
    """Those it lists, ascending."""
    codes: tuple[tuple[str, Mask], ...]
    """By item field, whether a code is meant [C]; nothing where the rule names no field."""

    def mask(self, rows_N: Int64, items: Items) -> Mask:
        """Which rows are meant, as their fields are now."""
        listed_N: Mask = np.zeros(len(rows_N), dtype=np.bool_)
        if len(self.rows):
            listed_N = np.isin(rows_N, self.rows)
        if not self.codes:
            return listed_N
        matched_N = np.ones(len(rows_N), dtype=np.bool_)
        for name, meant_C in self.codes:
            matched_N &= meant_C[items.fields[name][rows_N]]
        return listed_N | matched_N


class PinnedRow(NamedTuple):
    """An item and the place it shall have."""

    name: str
    row: int
    position: int


class Boosted(NamedTuple):
    """Items whose value is multiplied."""

    name: str
    log_factor: float
    meant: Meant


class Blocked(NamedTuple):
    """Items that are in no answer."""

    name: str
    meant: Meant


class CappedField(NamedTuple):
    """An item field, and how many places a value of it has at most."""

    name: str
    field: str
    most: int


class Ruling(NamedTuple):
    """Everything that holds for one request."""

    pins: tuple[PinnedRow, ...] = ()
    boosts: tuple[Boosted, ...] = ()
    caps: tuple[CappedField, ...] = ()
    blocks: tuple[Blocked, ...] = ()
    blocked_rows: Int64 = np.empty(0, dtype=np.int64)
    """Rows that recall need not look for; the last order checks the blocks again by itself."""
    degraded: tuple[str, ...] = ()


NO_RULES = Ruling()
