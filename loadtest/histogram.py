"""Histogram: latencies in buckets that are 2 % wide, so that processes can be added up."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SMALLEST_MS = 0.01
_LOG_WIDTH = math.log(1.02)


@dataclass
class Histogram:
    """Latencies in ms; a percentile is off by at most 1 %, the largest value is exact."""

    counts: Counter[int] = field(default_factory=Counter)
    largest_ms: float = 0.0

    def add(self, latency_ms: float) -> None:
        """Count a latency."""
        floored = max(latency_ms, SMALLEST_MS)
        self.counts[int(math.log(floored / SMALLEST_MS) / _LOG_WIDTH)] += 1
        self.largest_ms = max(self.largest_ms, latency_ms)

    def merge(self, other: "Histogram") -> None:
        """Add what another one counted."""
        self.counts.update(other.counts)
        self.largest_ms = max(self.largest_ms, other.largest_ms)

    def percentile_ms(self, share: float) -> float:
        """Nearest-rank percentile for a share in (0, 1]; NaN of nothing."""
        rank = math.ceil(share * self.counts.total())
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return min(SMALLEST_MS * math.exp((bucket + 0.5) * _LOG_WIDTH), self.largest_ms)
        return math.nan

    def to_dict(self) -> dict[str, Any]:
        """As a message between processes holds it."""
        return {"counts": list(self.counts.items()), "largest_ms": self.largest_ms}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Histogram":
        """The histogram that `to_dict` wrote."""
        pairs: Iterable[tuple[int, int]] = found["counts"]
        return cls(Counter(dict(pairs)), found["largest_ms"])
