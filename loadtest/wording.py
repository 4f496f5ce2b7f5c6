"""Wording: numbers and sentences that terminal and page have in common."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from loadtest.answer import Outcome
from loadtest.result import Measured, StepResult, capacity_per_s, find_knee, measured
from loadtest.slo import Check
from loadtest.step import Loop

COLUMNS = (
    "study", "load", "requests", "goodput/s", "p50 ms", "p95 ms", "p99 ms", "service p99",
    "shed", "degraded", "failed", "generator",
)  # fmt: skip
SHOWN_REASONS = 5
CHECK_COLUMNS = ("objective", "measure", "limit", "measured", "at", "")


class Sentence(NamedTuple):
    """Something to be told, and whether it is bad news."""

    text: str
    bad: bool


def load(one: Measured) -> str:
    """The load of a phase: `8 users`, `50/s`, `10-150/s`."""
    phase = one.phase
    if one.result.step.loop is Loop.CLOSED:
        return f"{phase.start:.0f} users"
    low = f"{_rate(phase.start)}/s"
    return low if phase.constant else f"{_rate(phase.start)}-{_rate(phase.end)}/s"


def _rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 20 else f"{rate:.3g}"


def study(one: Measured) -> str:
    """The study of a phase and, where it has several, the phase."""
    name = one.result.step.study
    return name if len(one.result.step.phases) == 1 else f"{name}: {one.phase.name}"


def row(one: Measured) -> tuple[str, ...]:
    """A phase in the order of `COLUMNS`."""
    tally = one.recommend
    late = (
        f"late {ms(one.tally.lateness.percentile_ms(0.99))}, " if one.tally.lateness.counts else ""
    )
    return (
        study(one),
        load(one),
        f"{tally.requests:,}",
        f"{tally.in_time / one.phase.duration_s:.1f}",
        *(ms(tally.latency.percentile_ms(share)) for share in (0.5, 0.95, 0.99)),
        ms(tally.service.percentile_ms(0.99)),
        *(percent(tally.share(outcome)) for outcome in _APART),
        f"{late}cpu {percent(one.result.cpu_share)}",
    )


_APART = (Outcome.SHED, Outcome.DEGRADED, Outcome.FAILED)


def ms(value_ms: float) -> str:
    """Milliseconds with three digits.

    >>> ms(3.14159), ms(1234.5), ms(float("nan"))
    ('3.14', '1234', '-')
    """
    if math.isnan(value_ms):
        return "-"
    return f"{value_ms:.3g}" if value_ms < 1000 else f"{value_ms:.0f}"


def percent(share: float) -> str:
    """A share as a percentage; what is not 0 does not look like 0.

    >>> percent(0.0), percent(0.123), percent(0.00001)
    ('0 %', '12.3 %', '<0.1 %')
    """
    if not share:
        return "0 %"
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def check_row(check: Check) -> tuple[str, ...]:
    """A check in the order of `CHECK_COLUMNS`."""
    words = ms if check.measure.endswith("_ms") else percent
    measured = "-" if math.isnan(check.measured) else words(check.measured)
    name = check.measure.removesuffix("_ms").removesuffix("_share")
    unit = " ms" if check.measure.endswith("_ms") else ""
    verdict = "met" if check.met else "MISSED"
    return (
        check.objective, name, f"{words(check.limit)}{unit}", f"{measured}{unit}", check.where,
        verdict,
    )  # fmt: skip


def sentences(results: Sequence[StepResult], within_ms: float) -> list[Sentence]:
    """What the results say, and what makes them doubtful."""
    found = [*_capacity(results, within_ms)]
    phases = measured(results)
    slow = [f"{study(one)} at {load(one)}" for one in phases if one.generator_bound]
    if slow:
        names = ", ".join(slow[:SHOWN_REASONS]) + (", ..." if len(slow) > SHOWN_REASONS else "")
        text = (
            f"The load generator was late or out of processor time in {len(slow)} of {len(phases)} "
            f"phases ({names}): latencies there are too high, rates too low. Give it a core of its "
            "own, or more processes."
        )
        found.append(Sentence(text, True))
    lost = sum(result.missing for result in results)
    if lost:
        found.append(Sentence(f"{lost} reports of generating processes did not come.", True))
    found += [
        Sentence(f"{kind}: {count:,} x {why}", kind == "Failed")
        for kind in ("Failed", "Degraded")
        for why, count in _counted(results, kind)
    ]
    return found


def _capacity(results: Sequence[StepResult], within_ms: float) -> list[Sentence]:
    found = []
    capacity, knee = capacity_per_s(results), find_knee(results)
    if capacity is not None:
        found.append(
            Sentence(f"Closed loop: {capacity:.0f} valid recommendations a second.", False)
        )
    if knee.carried is not None:
        end = (
            "no higher rate was tried"
            if knee.missed is None
            else f"at {knee.missed:.0f}/s no longer"
        )
        found.append(
            Sentence(
                f"Open loop: at {knee.carried:.0f}/s 99 % of the answers came within "
                f"{within_ms:g} ms ({end}).",
                False,
            )
        )
    elif knee.missed is not None:
        text = f"Open loop: even at {knee.missed:.0f}/s over 1 % took more than {within_ms:g} ms."
        found.append(Sentence(text, True))
    return found


def _counted(results: Sequence[StepResult], kind: str) -> list[tuple[str, int]]:
    found: Counter[str] = Counter()
    for one in measured(results):
        for tally in one.tally.routes.values():
            found.update(tally.failures if kind == "Failed" else tally.degraded)
    return found.most_common(SHOWN_REASONS)
