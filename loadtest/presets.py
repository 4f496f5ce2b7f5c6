"""Presets: which steps a load test takes, each of which may depend on what was found so far."""

from collections.abc import Generator
from enum import StrEnum
from typing import NamedTuple

from loadtest.result import StepResult
from loadtest.step import LoadError, Loop, Phase, Step, constant

SMOKE_RATE_PER_S = 50.0
KNEE_SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.15, 1.4)
"""Of the closed loop's capacity."""
BISECTIONS = 2
SOAK_SHARE = 0.5
SPIKE_SHARE = 0.3
SPIKE_FACTOR = 5.0
RAMP_SHARES = (0.1, 1.5)

Plan = Generator[Step, StepResult, None]
"""Yields steps, and is sent what each of them showed."""


class Preset(StrEnum):
    """What is studied."""

    SMOKE = "smoke"
    KNEE = "knee"
    SPIKE = "spike"
    RAMP = "ramp"
    SOAK = "soak"
    ALL = "all"


DEFAULT_STEP_S = {
    Preset.SMOKE: 10.0,
    Preset.KNEE: 10.0,
    Preset.SPIKE: 10.0,
    Preset.RAMP: 30.0,
    Preset.SOAK: 600.0,
    Preset.ALL: 5.0,
}


class Scale(NamedTuple):
    """How much and how long."""

    step_s: float
    """Length of a step."""
    rate_per_s: float | None = None
    """Of visits; without it rates are shares of what a closed loop gets through."""
    users: int = 16
    """Of the closed loop."""


def plan_of(preset: Preset, scale: Scale) -> Plan:
    """The steps of a preset."""
    match preset:
        case Preset.SMOKE:
            return _smoke(scale)
        case Preset.ALL:
            return _all(scale)
        case _:
            return _scaled(preset, scale)


def longest_s(preset: Preset, scale: Scale) -> float:
    """The longest that the steps of a preset can take, waits between them left out."""
    steps = {
        Preset.SMOKE: 2.0,
        Preset.KNEE: 1.0 + len(KNEE_SHARES) + BISECTIONS,
        Preset.SPIKE: 4.0,
        Preset.RAMP: 2.0,
        Preset.SOAK: 2.0,
        Preset.ALL: 2.0 + len(KNEE_SHARES) + BISECTIONS + 3.0 + 2.0 + 4.0,
    }
    return steps[preset] * scale.step_s


def _smoke(scale: Scale) -> Plan:
    yield from _capacity(scale)
    rate = scale.rate_per_s or SMOKE_RATE_PER_S
    yield constant(Preset.SMOKE, Loop.OPEN, rate, scale.step_s)


def _scaled(preset: Preset, scale: Scale) -> Plan:
    given = scale.rate_per_s
    capacity = given or (yield from _capacity(scale))
    if preset is Preset.KNEE:
        yield from _knee(capacity, scale.step_s)
    elif preset is Preset.SPIKE:
        yield _spike(given or SPIKE_SHARE * capacity, scale.step_s)
    elif preset is Preset.RAMP:
        yield _ramp(RAMP_SHARES[0] * capacity, given or RAMP_SHARES[1] * capacity, scale.step_s)
    else:
        rate = given or SOAK_SHARE * capacity
        yield constant(Preset.SOAK, Loop.OPEN, rate, scale.step_s)


def _all(scale: Scale) -> Plan:
    capacity = yield from _capacity(scale)
    rate = scale.rate_per_s or SMOKE_RATE_PER_S
    yield constant(Preset.SMOKE, Loop.OPEN, rate, scale.step_s)
    yield from _knee(capacity, scale.step_s)
    yield _spike(SPIKE_SHARE * capacity, scale.step_s)
    low, high = (share * capacity for share in RAMP_SHARES)
    yield _ramp(low, high, 2 * scale.step_s)
    yield constant(Preset.SOAK, Loop.OPEN, SOAK_SHARE * capacity, 4 * scale.step_s)


def _capacity(scale: Scale) -> Generator[Step, StepResult, float]:
    """Valid recommendations a second of a closed loop."""
    result = yield constant("capacity", Loop.CLOSED, scale.users, scale.step_s)
    tally = result.recommend()
    if not tally.valid:
        raise LoadError(
            f"none of {tally.requests} recommendations was answered well in {scale.step_s:g} s "
            f"({first_failure(result) or 'all were shed'}); see the server's log, then start again"
        )
    return tally.valid / scale.step_s


def first_failure(result: StepResult) -> str | None:
    """The most frequent failure of a step."""
    found = result.recommend().failures.most_common(1)
    return found[0][0] if found else None


def _knee(capacity: float, step_s: float) -> Plan:
    """Climb past the capacity, then halve the gap in which the knee lies."""
    carried, missed = 0.0, None
    for share in KNEE_SHARES:
        rate = share * capacity
        result = yield constant(Preset.KNEE, Loop.OPEN, rate, step_s)
        if missed is None:
            carried, missed = (rate, None) if result.carried else (carried, rate)
    for _ in range(BISECTIONS):
        if missed is None or not carried:
            return
        rate = (carried + missed) / 2
        result = yield constant(Preset.KNEE, Loop.OPEN, rate, step_s)
        carried, missed = (rate, missed) if result.carried else (carried, rate)


def _spike(base: float, step_s: float) -> Step:
    """A base rate, a burst of several times as much, and the base rate again."""
    peak = SPIKE_FACTOR * base
    phases = (
        Phase("before", step_s, base, base),
        Phase("spike", step_s / 2, peak, peak),
        Phase("after", 1.5 * step_s, base, base),
    )
    return Step(Preset.SPIKE, Loop.OPEN, phases)


def _ramp(low: float, high: float, duration_s: float) -> Step:
    """A rate that grows in a straight line."""
    return Step(Preset.RAMP, Loop.OPEN, (Phase("ramp", duration_s, low, high),))
