"""Logged: what the cascade that served did with each request, and how far each item came.

Legend: R requests, E entries of all requests.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Depth(IntEnum):
    """How far an item came, in order."""

    DROPPED_BY_RECALL = 0
    """One of a uniform sample of those that recall left behind."""
    DROPPED_BY_RANK = 1
    """It reached ranking and is not in the answer."""
    RECOMMENDED = 2
    """In the answer, but the user did not get to see it: nothing is known about it."""
    SEEN = 3
    """The user saw it, and bought it or did not."""


class Logged(NamedTuple):
    """Entries of R requests, in the order of the requests; of one request by row."""

    starts: NDArray[np.int64]
    """[R + 1] the request's slice of the entries."""
    rows: NDArray[np.int32]
    """[E] item rows, each once a request."""
    depths: NDArray[np.int8]
    """[E] `Depth`."""
