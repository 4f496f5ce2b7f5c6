"""Results: what was measured, in the form in which it is kept."""

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Point(NamedTuple):
    """A server in one round at one concurrency."""

    contender: str
    ranker: str
    round: int
    concurrency: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of all its processes, a request."""
    generator_cpu_share: float
    """Of one core."""
    answered: int
    errors: dict[str, int]
    """Requests that failed, and sampled answers that were wrong, by reason."""


class Held(NamedTuple):
    """Memory of a server in one round, all its processes together, after the load."""

    contender: str
    ranker: str
    round: int
    proportional_mb: float
    private_mb: float
    processes: int


class Floor(NamedTuple):
    """The cascade in processes of its own, without HTTP, in one round."""

    ranker: str
    round: int
    batch: int
    requests_per_s: float
    call_ms: float
    """Median time of a batch."""
    cpu_ms: float
    """A request."""


class Absent(NamedTuple):
    """Why a contender has no numbers, or not all of them."""

    contender: str
    ranker: str
    round: int
    reason: str


class Served(NamedTuple):
    """All of the part on servers."""

    points: list[Point]
    held: list[Held]
    floors: list[Floor]
    absent: list[Absent]


def median(rows: Iterable[NamedTuple], value: Callable[..., float]) -> float:
    """Median over rounds; NaN where there is none."""
    values = [value(row) for row in rows]
    return statistics.median(values) if values else float("nan")


def points_of(served: Served, contender: str, ranker: str, concurrency: int) -> list[Point]:
    """Of all rounds."""
    wanted = (contender, ranker, concurrency)
    return [p for p in served.points if (p.contender, p.ranker, p.concurrency) == wanted]


def errors_of(points: Iterable[Point]) -> dict[str, int]:
    """Of several points together."""
    together: dict[str, int] = {}
    for point in points:
        for reason, count in point.errors.items():
            together[reason] = together.get(reason, 0) + count
    return together
