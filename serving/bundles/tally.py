"""Tally: what a trial found so far, in sums that can be added over workers."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from serving.bundles.agreement import Agreement

_GROWTH = math.log(1.05)
"""Durations are kept in buckets 5 % wide, so a quantile is off by 2.5 % at most."""


@dataclass
class Tally:
    """Counts and sums over requests."""

    compared: int = 0
    failed: int = 0
    """Requests that the candidate failed on."""
    dropped: int = 0
    """Requests that it did not score, because the worker was busy."""
    overlap: float = 0.0
    first: float = 0.0
    rank_correlation: float = 0.0
    correlated: int = 0
    """Requests whose answers had two items in common, over which the correlation is a mean."""
    served_us: dict[int, int] = field(default_factory=dict)
    """Bucket -> requests, of the time the answer took in the bundle that serves."""
    candidate_us: dict[int, int] = field(default_factory=dict)

    def compare(self, found: Agreement, served_us: int, candidate_us: int) -> None:
        """Add one request that both answered."""
        self.compared += 1
        self.overlap += found.overlap
        self.first += found.first
        if found.rank_correlation is not None:
            self.rank_correlation += found.rank_correlation
            self.correlated += 1
        for buckets, duration_us in (
            (self.served_us, served_us),
            (self.candidate_us, candidate_us),
        ):
            bucket = round(math.log(max(duration_us, 1)) / _GROWTH)
            buckets[bucket] = buckets.get(bucket, 0) + 1

    def pack(self) -> bytes:
        """The tally as JSON."""
        return _TALLY.dump_json(self)


def _count(buckets: dict[int, int], duration_us: int) -> None:
    bucket = round(math.log(max(duration_us, 1)) / _GROWTH)
    buckets[bucket] = buckets.get(bucket, 0) + 1


_TALLY = TypeAdapter(Tally)


def unpack(packed: bytes) -> Tally:
    """The tally that `pack` made JSON of."""
    return _TALLY.validate_json(packed)


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    result = Tally()
    for tally in tallies:
        result = Tally(
            compared=result.compared + tally.compared,
            failed=result.failed + tally.failed,
            dropped=result.dropped + tally.dropped,
            overlap=result.overlap + tally.overlap,
            first=result.first + tally.first,
            rank_correlation=result.rank_correlation + tally.rank_correlation,
            correlated=result.correlated + tally.correlated,
            served_us=Counter(result.served_us) + Counter(tally.served_us),
            candidate_us=Counter(result.candidate_us) + Counter(tally.candidate_us),
        )
    return result


def quantile_ms(buckets: Mapping[int, int], share: float) -> float | None:
    """The duration that `share` of the requests do not exceed; None where there are none."""
    remaining = share * sum(buckets.values())
    for bucket, count in sorted(buckets.items()):
        remaining -= count
        if remaining <= 0:
            return math.exp(bucket * _GROWTH) / 1000
    return None
