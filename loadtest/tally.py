"""Tally: what came of the requests of a phase, added up over processes."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loadtest.answer import Outcome, Route, Verdict
from loadtest.histogram import Histogram

MAX_WINDOWS = 60
"""Points of a phase's course over time."""


class Call(NamedTuple):
    """A request that has ended."""

    route: Route
    verdict: Verdict
    latency_ms: float
    """From when it was to be sent."""
    service_ms: float
    """From when it was sent."""


@dataclass
class Tally:
    """Requests by outcome, and how long they took.

    Latency and service time are of every request but the shed ones, whose refusals are quick.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    in_time: int = 0
    """Valid answers within the limit that was asked for."""
    degraded: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)

    @property
    def requests(self) -> int:
        """All of them."""
        return self.outcomes.total()

    @property
    def valid(self) -> int:
        """Answers that can be used, degraded ones among them."""
        return self.outcomes[Outcome.OK] + self.outcomes[Outcome.DEGRADED]

    def share(self, outcome: Outcome) -> float:
        """Share of the requests with an outcome; 0 of nothing."""
        return self.outcomes[outcome] / self.requests if self.requests else 0.0

    @property
    def in_time_share(self) -> float:
        """Share of the requests with a valid answer within the limit; 0 of nothing."""
        return self.in_time / self.requests if self.requests else 0.0

    def add(self, call: Call, within_ms: float) -> None:
        """Count a request."""
        outcome, reasons = call.verdict
        self.outcomes[outcome] += 1
        if outcome is Outcome.DEGRADED:
            self.degraded.update(reasons)
        elif outcome is Outcome.FAILED:
            self.failures.update(reasons)
        if outcome is not Outcome.SHED:
            self.latency.add(call.latency_ms)
            self.service.add(call.service_ms)
        valid = outcome in (Outcome.OK, Outcome.DEGRADED)
        self.in_time += valid and call.latency_ms <= within_ms

    def merge(self, other: "Tally") -> None:
        """Add what another one counted."""
        self.outcomes.update(other.outcomes)
        self.in_time += other.in_time
        self.degraded.update(other.degraded)
        self.failures.update(other.failures)
        self.latency.merge(other.latency)
        self.service.merge(other.service)

    def to_dict(self) -> dict[str, Any]:
        """As a message between processes holds it."""
        return {
            "outcomes": {str(name): n for name, n in self.outcomes.items()},
            "in_time": self.in_time,
            "degraded": dict(self.degraded),
            "failures": dict(self.failures),
            "latency": self.latency.to_dict(),
            "service": self.service.to_dict(),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Tally":
        """The tally that `to_dict` wrote."""
        return cls(
            Counter(found["outcomes"]),
            found["in_time"],
            Counter(found["degraded"]),
            Counter(found["failures"]),
            Histogram.from_dict(found["latency"]),
            Histogram.from_dict(found["service"]),
        )


@dataclass
class PhaseTally:
    """A phase by route, its recommendations by time, and how late the generator itself was."""

    routes: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    windows: defaultdict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """Recommendations, by the window of time in which they were to be sent."""
    lateness: Histogram = field(default_factory=Histogram)

    def merge(self, other: "PhaseTally") -> None:
        """Add what another process counted."""
        for route, tally in other.routes.items():
            self.routes[route].merge(tally)
        for window, tally in other.windows.items():
            self.windows[window].merge(tally)
        self.lateness.merge(other.lateness)

    def to_dict(self) -> dict[str, Any]:
        """As a message between processes holds it."""
        return {
            "routes": [(str(route), tally.to_dict()) for route, tally in self.routes.items()],
            "windows": [(window, tally.to_dict()) for window, tally in self.windows.items()],
            "lateness": self.lateness.to_dict(),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "PhaseTally":
        """The tally that `to_dict` wrote."""
        return cls(
            defaultdict(Tally, {name: Tally.from_dict(one) for name, one in found["routes"]}),
            defaultdict(Tally, {name: Tally.from_dict(one) for name, one in found["windows"]}),
            Histogram.from_dict(found["lateness"]),
        )


def window_s(duration_s: float) -> float:
    """Length of the windows of a phase: at least a second."""
    return max(1.0, duration_s / MAX_WINDOWS)
