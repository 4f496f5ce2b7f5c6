"""GrowthBook: its hash and its buckets, so that an organisation that moves keeps its variants.

GrowthBook's SDK specification, 0.8.0: a value is hashed with FNV-1a (32 bits) over its UTF-16 code
units, twice for hash version 2; the hash falls into one of 10,000 buckets, and each variant takes
the first part, its `coverage`, of a range as wide as its weight. A namespace is a range of the
1,000 buckets of hash version 1.

FNV: Fowler, Noll, Vo and Eastlake, *The FNV Non-Cryptographic Hash Algorithm*, IETF.
"""

import math
import sys
from collections.abc import Sequence
from typing import Final

BUCKETS: Final = 10_000
OUTSIDE: Final = 255
"""In a table of buckets: no variant's."""

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193
_MASK = 0xFFFFFFFF
_UTF_16 = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"

Range = tuple[float, float]
"""From the first, up to the second and without it; in [0, 1]."""


def code_units(text: str) -> Sequence[int]:
    """The UTF-16 code units of a text."""
    if text.isascii():
        return text.encode()
    return memoryview(text.encode(_UTF_16)).cast("H")


def fnv1a(units: Sequence[int], state: int = _OFFSET) -> int:
    """FNV-1a with 32 bits; `state` is the hash of what stood before.

    >>> fnv1a(b"ab") == fnv1a(b"b", fnv1a(b"a"))
    True
    """
    for unit in units:
        state = (state ^ unit) * _PRIME & _MASK
    return state


def bucket(seed_state: int, units: Sequence[int]) -> int:
    """Bucket in [0, 10,000) of a value by hash version 2.

    Args:
        seed_state: `fnv1a(code_units(seed))`.
        units: code units of the value.
    """
    return fnv1a(b"%d" % fnv1a(units, seed_state)) % BUCKETS


def in_namespace(units: Sequence[int], name_units: Sequence[int], held: Range) -> bool:
    """Whether a value falls into the range of a namespace, by hash version 1.

    Args:
        units: code units of the value.
        name_units: `code_units("__" + name)`.
        held: the range.
    """
    return held[0] <= fnv1a(name_units, fnv1a(units)) % 1000 / 1000 < held[1]


def bucket_ranges(weights: Sequence[float], coverage: float) -> tuple[Range, ...]:
    """The range of each variant: as wide as its weight, taken from its start by `coverage`."""
    ranges = []
    start = 0.0
    for weight in weights:
        ranges.append((start, start + coverage * weight))
        start += weight
    return tuple(ranges)


def bucket_table(ranges: Sequence[Range]) -> bytes:
    """The variant of each of the 10,000 buckets, or `OUTSIDE`; an earlier range wins."""
    table = bytearray([OUTSIDE]) * BUCKETS
    for variant in reversed(range(len(ranges))):
        first, end = (_first_bucket(bound) for bound in ranges[variant])
        table[first:end] = bytes([variant]) * (end - first)
    return bytes(table)


def _first_bucket(bound: float) -> int:
    """The first bucket of which `bucket / 10,000 >= bound`, in the arithmetic of floats."""
    found = min(max(math.floor(bound * BUCKETS) - 1, 0), BUCKETS)
    while found < BUCKETS and found / BUCKETS < bound:
        found += 1
    return found
