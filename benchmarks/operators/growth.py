"""Time against N, and the power of N with which it grows.

Legend: N candidates.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.operators.contenders import growing
from benchmarks.operators.plan import Plan
from benchmarks.operators.problem import Contender, problem
from benchmarks.operators.table import LEFT_OUT, Table, microseconds
from benchmarks.operators.timing import (
    MOST_GIGABYTES,
    MOST_SECONDS,
    Entry,
    admit,
    spread,
    take_turns,
)

FITTED_FROM = 1000
"""The least N whose time takes part in a fit: below, calls cost more than candidates."""
FEWEST_POINTS = 3
ROWS_GIGABYTES = 0.25
"""Rows are added no further than to this: those who hold N k numbers a row are slow enough."""


class Point(NamedTuple):
    """One N of a contender."""

    n: int
    rows: int
    row_us: float
    """Median time of a call over its rows."""


class Fit(NamedTuple):
    """Exponent of N in the time of a row, and its 95 % interval."""

    exponent: float
    low: float
    high: float


Growth = dict[str, list[Point]]
"""Of each contender, the sizes that it could be timed at."""


def measure(plan: Plan, device: str, tick: Callable[[str], None]) -> Growth:
    """All sizes of the plan."""
    growth: Growth = {contender.name: [] for contender in growing(device)}
    for n in plan.growth:
        tick(f"growth {n:,}")
        full = problem(math.ceil(plan.growth_elements / n), n, device)
        rows, entries = {}, {}
        for contender in growing(device):
            rows[contender.name] = _rows(contender, *full.shape)
            given = full.first(rows[contender.name])
            found = admit(contender, given, plan.effort, device)
            if isinstance(found, Entry):
                entries[contender.name] = found
        for name, times in take_turns(entries, plan.effort, device).items():
            growth[name].append(Point(n, rows[name], spread(times).median / rows[name]))
    return growth


def _rows(contender: Contender, b: int, n: int) -> int:
    """As many rows as are there and hold little enough, at least 1."""
    return max(1, min(b, int(ROWS_GIGABYTES / contender.gigabytes(1, n))))


def fit(points: list[Point]) -> Fit | None:
    """Least-squares line through the logarithms; None of too few points."""
    used = [point for point in points if point.n >= FITTED_FROM]
    if len(used) < FEWEST_POINTS:
        return None
    line = stats.linregress(np.log([p.n for p in used]), np.log([p.row_us for p in used]))
    half = float(stats.t.ppf(0.975, len(used) - 2)) * float(line.stderr)
    slope = float(line.slope)
    return Fit(slope, slope - half, slope + half)


def table(growth: Growth, elements: int, device: str) -> Table:
    """A row for each contender, a column for each decade of N."""
    sizes = {point.n for points in growth.values() for point in points}
    decades = sorted(n for n in sizes if math.log10(n).is_integer())
    rows = []
    for name, points in growth.items():
        found, times = fit(points), {point.n: point.row_us for point in points}
        rows.append(
            [
                name,
                *(microseconds(times[n]) if n in times else LEFT_OUT for n in decades),
                LEFT_OUT if found is None else f"{found.exponent:.2f}",
                LEFT_OUT if found is None else f"{found.low:.2f} to {found.high:.2f}",
            ]
        )
    return Table(
        f"Growth with N: microseconds a row, forward and backward, on {device}",
        "Median time of a call over its rows. The exponent is the slope of log time a row against "
        f"log N, N >= {FITTED_FROM:,}, with the 95 % interval of the least-squares line. A call "
        f"has as many rows as make {elements:,} candidates, or as hold {ROWS_GIGABYTES} GB if "
        f"those are fewer, and at least one. {LEFT_OUT}: over {MOST_SECONDS:.0f} s or "
        f"{MOST_GIGABYTES:.0f} GB.",
        ["contender", *(f"N = {n:,}" for n in decades), "exponent", "95 %"],
        {"": rows},
    )
