"""Studies of many effects at once: several variants, several segments, one day after the other."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from abtest.analysis.statistics.comparison import compare
from abtest.analysis.statistics.effect import ALPHA, DayEffect, Effect, Interval
from abtest.analysis.statistics.multiplicity import adjust
from abtest.analysis.statistics.novelty import novelty
from benchmarks.statistics.rate import Rate, count
from benchmarks.statistics.study import ARM, LEVEL, certain, generators
from benchmarks.statistics.world import REVENUE, revenue

VARIANTS = 4
SEGMENTS = 10
DAYS = 14


def variants(runs: int) -> list[Rate]:
    """Four variants beside one control, none of which does anything: Holm."""
    holm, plain = [], []
    for generator in generators(runs, 10):
        control, *arms = (revenue(generator, ARM) for _ in range(VARIANTS + 1))
        effects = [certain(compare(REVENUE, "new", arm, control)) for arm in arms]
        holm.append(_any_found(adjust(effects, "holm")))
        plain.append(any(effect.p_value < ALPHA for effect in effects))
    name = f"revenue, {VARIANTS} variants, A/A"
    return [
        count(name, "adjusted by Holm, any of them is found", holm, (0.02, 0.05)),
        count(name, "as if each were alone (wrong), any is found", plain, (0.1, 1)),
    ]


def segments(runs: int) -> list[Rate]:
    """Ten segments: none has an effect, or one has and is looked for among nine that have none."""
    rates = []
    for factor, what, band in (
        (1.0, "none has an effect, any is found by Benjamini-Hochberg", (0.02, 0.05)),
        (2.0, "one earns twice as much, it is found", (0.8, 1)),
    ):
        found, plain = [], []
        for generator in generators(runs, 11):
            effects = [
                certain(
                    compare(
                        REVENUE,
                        "new",
                        revenue(generator, ARM // 2, factor=1.0 if at else factor),
                        revenue(generator, ARM // 2),
                    )
                )
                for at in range(SEGMENTS)
            ]
            adjusted = adjust(effects, "bh")
            found.append(_any_found(adjusted if factor == 1 else adjusted[:1]))
            plain.append(any(effect.p_value < ALPHA for effect in effects))
        name = f"revenue, {SEGMENTS} segments"
        rates.append(count(name, what, found, band))
        if factor == 1:
            wrong = "none has an effect, any is found as if each were alone (wrong)"
            rates.append(count(name, wrong, plain, (0.3, 1)))
    return rates


def _any_found(effects: Sequence[Effect]) -> bool:
    return any(effect.p_adjusted is not None and effect.p_adjusted < ALPHA for effect in effects)


def days(runs: int) -> list[Rate]:
    """Two weeks of the same units, whose effect stays, is none at all, or fades to nothing."""
    rates = []
    for lifts, name, what, band in (
        ([0.0] * DAYS, "A/A", "it is said to fade or to grow", LEVEL),
        ([0.5] * DAYS, "lift 50 %", "it is said to fade or to grow", (0.03, 0.07)),
        (list(np.linspace(1.5, 0, DAYS)), "lift 150 %, fading", "it is said to fade", (0.8, 1)),
    ):
        found = []
        for generator in generators(runs, 12):
            said = novelty("new", _two_weeks(generator, lifts))
            assert said is not None
            found.append(said.fades or (said.grows and lifts[0] == lifts[-1]))
        rates.append(count(f"revenue, {DAYS} days, {name}", what, found, band))
    return rates


def _two_weeks(generator: np.random.Generator, lifts: Sequence[float]) -> list[DayEffect]:
    units = ARM
    keen = generator.permutation(np.repeat([0.5, 1.5], units // 2))
    treated = generator.random(units) < 0.5
    told, total = [], np.zeros(units)
    for at, lift in enumerate(lifts):
        spent = keen * revenue(generator, units).numerator * (1 + lift * treated)
        total += spent
        effect, so_far = (_difference(values, treated) for values in (spent, total))
        told.append(
            DayEffect(
                day=date(2026, 1, 1) + timedelta(at),
                variant="new",
                units=units,
                absolute=so_far,
                interval=Interval(low=so_far, high=so_far),
                always_valid=None,
                that_day=effect,
            )
        )
    return told


def _difference(values: np.ndarray, treated: np.ndarray) -> float:
    return float(values[treated].mean() - values[~treated].mean())
