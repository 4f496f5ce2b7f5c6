"""What is served, how hard it is driven, and how much time goes into it."""

from typing import NamedTuple


class Catalogue(NamedTuple):
    """Sizes of the cascade that is served."""

    rankers: tuple[str, ...]
    """Each is served in a bundle of its own."""
    items: int
    width: int
    """D, of the vectors of items and users."""
    users: int
    history: int
    """Interactions a user has, all of which the rankers look at."""
    recalled: int
    """Candidates that the index finds and the ranker scores."""
    answered: int
    cells: int
    """Cells of the inverted file index."""
    probes: int
    """Cells that a search looks into."""


class Load(NamedTuple):
    """How the servers are driven."""

    workers: int
    concurrency: tuple[int, ...]
    """Connections, each of which has one request under way."""
    rounds: int
    """Each starts every server anew; medians are over rounds."""
    settle_s: float
    """At the highest concurrency, once a server answers: for all its workers to warm up."""
    warm_s: float
    """Of each concurrency, before anything is counted."""
    measured_s: float
    floor_s: float
    """Of each batch size of the in-process floor, in each round."""


class IndexSizes(NamedTuple):
    """Sizes of the part on indexes."""

    items: int
    width: int
    recalled: int
    queries: int
    probes: tuple[int, ...]
    rounds: int


class RankerSizes(NamedTuple):
    """Sizes of the part on the ranker."""

    items: int
    candidates: tuple[int, ...]
    histories: tuple[int, ...]
    """Interactions of a user."""
    rounds: int


class Plan(NamedTuple):
    """All parts."""

    catalogue: Catalogue
    load: Load
    indexes: IndexSizes
    ranker: RankerSizes


FULL = Plan(
    catalogue=Catalogue(
        rankers=("din", "mlp"),
        items=100_000,
        width=32,
        users=1_000,
        history=50,
        recalled=500,
        answered=20,
        cells=1_024,
        probes=128,
    ),
    load=Load(
        workers=2,
        concurrency=(1, 8, 32, 64),
        rounds=3,
        settle_s=2.0,
        warm_s=0.5,
        measured_s=2.5,
        floor_s=3.0,
    ),
    indexes=IndexSizes(
        items=1_000_000,
        width=64,
        recalled=500,
        queries=200,
        probes=(64, 128, 256, 512),
        rounds=3,
    ),
    ranker=RankerSizes(items=100_000, candidates=(500,), histories=(50, 1_000), rounds=200),
)
"""For results."""

QUICK = Plan(
    catalogue=FULL.catalogue._replace(items=4_000, users=50, cells=64, probes=32),
    load=FULL.load._replace(
        concurrency=(1, 8), rounds=1, settle_s=0.3, warm_s=0.2, measured_s=0.5, floor_s=0.5
    ),
    indexes=IndexSizes(items=5_000, width=16, recalled=100, queries=20, probes=(4, 8), rounds=1),
    ranker=RankerSizes(items=2_000, candidates=(500,), histories=(50,), rounds=5),
)
"""To see that it runs; its numbers mean nothing."""
