"""Ledger: what a replay was told is recorded, to be compared with what the event log holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

NO_EXPERIMENT = "no experiment"


@dataclass
class Account:
    """One variant's answers and acknowledged sales."""

    requests: int = 0
    conversions: int = 0
    revenue_micros: int = 0


@dataclass
class Ledger:
    """What every variant earned, as acknowledged by the server."""

    accounts: dict[str, Account] = field(default_factory=dict)
    trips: int = 0
    failures: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def book(self, experiments: Sequence[Mapping[str, Any]], sales: Sequence[int]) -> None:
        """Book one answered trip and its acknowledged sales under every variant it was in."""
        self.trips += 1
        names = [f"{e['key']}/{e['variant']}" for e in experiments] or [NO_EXPERIMENT]
        for name in names:
            account = self.accounts.setdefault(name, Account())
            account.requests += 1
            account.conversions += len(sales)
            account.revenue_micros += sum(sales)

    def summary(self, run_id: str) -> dict[str, Any]:
        """The ledger as JSON can hold it."""
        return {
            "run_id": run_id,
            "trips": self.trips,
            "failed_trips": len(self.failures),
            "failures": self.failures[:20],
            "accounts": {name: asdict(self.accounts[name]) for name in sorted(self.accounts)},
            "recommend_ms": {f"p{p}": percentile(self.latencies_ms, p / 100) for p in (50, 95, 99)},
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; NaN of nothing.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.5)
    2.0
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
