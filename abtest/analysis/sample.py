"""Sample: one metric of the units of one variant, as statistics take it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Sample(NamedTuple):
    """Numbers of U units, in the order of their names, so that sums do not depend on the files.

    Money is in currency units and times in milliseconds. What the units added up was whole numbers
    (micros, microseconds), so equal logs give equal bits.
    """

    numerator: Float64
    """[U] Of a mean or a ratio."""
    denominator: Float64 | None = None
    """[U] Of a ratio."""
    covariate: Float64 | None = None
    """[U] The numerator before the first exposure; 0 where the unit was not there."""
    covariate_denominator: Float64 | None = None
    """[U] The denominator before the first exposure."""

    @property
    def number_units(self) -> int:
        """U."""
        return len(self.numerator)


class Values(NamedTuple):
    """Values of V events of U units, for a quantile clustered by unit."""

    values: Float64
    """[V]"""
    units: Int64
    """[V] Index of the unit of each value, in 0..U-1."""
    number_units: int
