"""Result: what every step showed, and where the knee is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from loadtest.answer import Outcome, Route
from loadtest.histogram import Histogram
from loadtest.step import Loop, Phase, Step
from loadtest.tally import PhaseTally, Tally, window_s

GOOD_SHARE = 0.99
"""Of the visits, that must be answered in time for a rate to count as carried."""
BUSY_CPU_SHARE = 0.9
LATE_MS = 20.0
"""Lateness of the generator at the 99th percentile from which its latencies are not believed."""


@dataclass(frozen=True)
class StepResult:
    """A step that was carried out."""

    step: Step
    phases: tuple[PhaseTally, ...]
    cpu_share: float
    """Of the generating process that had most to do."""
    missing: int = 0
    """Processes that never reported."""

    def recommend(self) -> Tally:
        """The recommendations of all phases."""
        return total(phase.routes[Route.RECOMMEND] for phase in self.phases)

    @property
    def carried(self) -> bool:
        """Whether nearly every visit was answered in time."""
        return self.recommend().in_time_share >= GOOD_SHARE


class Measured(NamedTuple):
    """A phase and what came of it."""

    result: StepResult
    phase: Phase
    tally: PhaseTally

    @property
    def recommend(self) -> Tally:
        """Its recommendations."""
        return self.tally.routes[Route.RECOMMEND]

    @property
    def generator_bound(self) -> bool:
        """Whether the generator, not the server, may have set the latencies."""
        late = self.tally.lateness.percentile_ms(0.99) > LATE_MS
        return self.result.cpu_share > BUSY_CPU_SHARE or late


class Knee(NamedTuple):
    """Rates, in visits a second, between which answers cease to come in time."""

    carried: float | None
    """The highest below which every rate was carried; None if the lowest was not."""
    missed: float | None
    """The lowest that was not carried; None if all were."""


def total(tallies: Iterable[Tally]) -> Tally:
    """One tally of many."""
    found = Tally()
    for tally in tallies:
        found.merge(tally)
    return found


def measured(results: Iterable[StepResult]) -> list[Measured]:
    """Every phase of every step, in the order in which they ran."""
    return [
        Measured(result, phase, tally)
        for result in results
        for phase, tally in zip(result.step.phases, result.phases, strict=True)
    ]


def steady(results: Iterable[StepResult]) -> list[Measured]:
    """Phases with a constant arrival rate, by rate."""
    found = [
        one for one in measured(results) if one.result.step.loop is Loop.OPEN and one.phase.constant
    ]
    return sorted(found, key=lambda one: one.phase.start)


def find_knee(results: Sequence[StepResult]) -> Knee:
    """The knee among the steps of the knee study."""
    climbed = [result for result in results if result.step.study == "knee"]
    rates = {result.step.phases[0].start: result.carried for result in climbed}
    missed = min((rate for rate, carried in rates.items() if not carried), default=None)
    below = [rate for rate in rates if missed is None or rate < missed]
    return Knee(max(below, default=None), missed)


def capacity_per_s(results: Iterable[StepResult]) -> float | None:
    """Valid recommendations a second of the closed loop that had most; None without one."""
    closed = [result for result in results if result.step.loop is Loop.CLOSED]
    rates = [result.recommend().valid / result.step.duration_s for result in closed]
    return max(rates, default=None)


def to_json(results: Sequence[StepResult]) -> dict[str, Any]:
    """Results as the JSON file holds them."""
    knee = find_knee(results)
    return {
        "closed_loop_per_s": capacity_per_s(results),
        "knee": {"carried_per_s": knee.carried, "missed_per_s": knee.missed},
        "steps": [_step(result) for result in results],
    }


def _step(result: StepResult) -> dict[str, Any]:
    return {
        "study": result.step.study,
        "loop": result.step.loop.value,
        "generator_cpu_share": round(result.cpu_share, 3),
        "missing_processes": result.missing,
        "phases": [_phase(one) for one in measured([result])],
    }


def _phase(one: Measured) -> dict[str, Any]:
    length_s = window_s(one.phase.duration_s)
    return {
        **asdict(one.phase),
        "generator_bound": one.generator_bound,
        "lateness_p99_ms": _rounded(one.tally.lateness.percentile_ms(0.99)),
        "routes": {
            str(name): _tally(tally, one.phase.duration_s)
            for name, tally in one.tally.routes.items()
        },
        "windows": [
            {"from_s": window * length_s, **_tally(tally, length_s)}
            for window, tally in sorted(one.tally.windows.items())
        ],
    }


def _tally(tally: Tally, duration_s: float) -> dict[str, Any]:
    return {
        "requests": tally.requests,
        **{outcome.value: tally.outcomes[outcome] for outcome in Outcome},
        "requests_per_s": round(tally.requests / duration_s, 2),
        "goodput_per_s": round(tally.in_time / duration_s, 2),
        "latency_ms": _percentiles(tally.latency),
        "service_ms": _percentiles(tally.service),
        "degraded_by_reason": dict(tally.degraded.most_common()),
        "failures": dict(tally.failures.most_common(20)),
    }


def _percentiles(histogram: Histogram) -> dict[str, float | None]:
    found = {f"p{p}": _rounded(histogram.percentile_ms(p / 100)) for p in (50, 95, 99)}
    return {**found, "max": _rounded(histogram.largest_ms)}


def _rounded(value_ms: float) -> float | None:
    return round(value_ms, 3) if math.isfinite(value_ms) else None
