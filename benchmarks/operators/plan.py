"""What is measured, and how much time goes into it.

Legend: B rows, N candidates.
"""

from typing import NamedTuple

from benchmarks.operators.timing import Effort

Shape = tuple[int, int]
"""B and N."""


class Plan(NamedTuple):
    """Shapes of each part, and the effort for a shape."""

    losses: tuple[Shape, ...]
    joint: tuple[Shape, ...]
    """Of two stages."""
    masks: tuple[Shape, ...]
    growth: tuple[int, ...]
    """N."""
    growth_elements: int
    """Rows are added until there are this many candidates, so that small N are more than calls."""
    effort: Effort
    threaded: int
    """From this many candidates on, losses are timed with two threads too."""
    copy_bytes: int
    """Size of a block whose copy no cache holds."""


FULL = Plan(
    losses=(
        *((1, 40), (1024, 40), (1024, 160), (64, 1000)),
        *((1024, 1000), (64, 10_000), (16, 100_000), (1, 10_000_000)),
    ),
    joint=((1024, 40), (1024, 160), (64, 1000), (1024, 1000)),
    masks=((64, 40), (1024, 40), (1024, 160), (64, 1000), (64, 10_000)),
    growth=tuple(round(10 ** (half / 2)) for half in range(4, 15)),
    growth_elements=100_000,
    effort=Effort(seconds=6.0, rounds=5, turn_ms=1.0),
    threaded=100_000,
    copy_bytes=2**28,
)
"""For results."""

FULL_GPU = FULL._replace(losses=(*FULL.losses, (1024, 10_000), (16_384, 1024)))
"""On a GPU two more shapes of at least 1e7 candidates, of rows that fit its registers."""

QUICK = Plan(
    losses=((1, 40), (64, 160)),
    joint=((64, 40),),
    masks=((64, 40), (8, 100)),
    growth=(100, 1000, 1778, 3162),
    growth_elements=1000,
    effort=Effort(seconds=0.1, rounds=2, turn_ms=0.1),
    threaded=10_000,
    copy_bytes=2**22,
)
"""To see that it runs; its numbers mean nothing."""
