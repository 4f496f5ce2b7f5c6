"""Studies: each simulates experiments whose truth is known, and counts what the analysis says.

Here are those of one effect at a time; `many` has those of several at once.
"""

from collections.abc import Iterator

import numpy as np

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Sample, Values
from abtest.analysis.statistics.comparison import compare, compare_values
from abtest.analysis.statistics.guard import guard
from abtest.analysis.statistics.looks import left_sequence, looks, significant
from abtest.analysis.statistics.planning import plan
from abtest.analysis.statistics.quantile import quantile
from abtest.analysis.statistics.sequential import always_valid
from benchmarks.statistics.many import days, segments, variants
from benchmarks.statistics.rate import Rate, count
from benchmarks.statistics.study import ARM, COVERAGE, LEVEL, Study, certain, generators, holds
from benchmarks.statistics.world import (
    CLICK_RATE,
    CLICK_RATE_CUPED,
    REVENUE,
    REVENUE_CAPPED,
    REVENUE_CUPED,
    clicks,
    latencies,
    latency,
    pooled,
    revenue,
)

LOOKS = 100


def reading(runs: int) -> list[Rate]:
    """A/A tests on revenue, read once, at every look, and by the confidence sequence."""
    fixed, peeking, sequence = [], [], []
    for generator in generators(runs, 1):
        sample = revenue(generator, 2 * ARM)._replace(covariate=None)
        treated = generator.random(2 * ARM) < 0.5
        order = np.arange(2 * ARM) * LOOKS // (2 * ARM)
        seen = looks(sample, treated, order, LOOKS, adjusted=False)
        found = significant(seen)
        fixed.append(bool(found[-1]))
        peeking.append(bool(found.any()))
        sequence.append(bool(left_sequence(seen, 2 * ARM).any()))
    name = f"revenue, A/A, {LOOKS} looks"
    return [
        count(name, "fixed horizon, read once, finds an effect", fixed, LEVEL),
        count(name, "fixed horizon, read at every look, finds one", peeking, (0.25, 1)),
        count(name, "confidence sequence leaves zero at any look", sequence, (0, 0.05)),
    ]


def misplanned(runs: int) -> list[Rate]:
    """A/A tests whose confidence sequence was planned for ten times fewer or more units."""
    rates = []
    for planned in (ARM // 5, 20 * ARM):
        found = []
        for generator in generators(runs, 2):
            sample = revenue(generator, 2 * ARM)._replace(covariate=None)
            treated = generator.random(2 * ARM) < 0.5
            order = np.arange(2 * ARM) * LOOKS // (2 * ARM)
            seen = looks(sample, treated, order, LOOKS, adjusted=False)
            found.append(bool(left_sequence(seen, planned).any()))
        what = f"confidence sequence planned for {planned:,} units leaves zero"
        rates.append(count(f"revenue, A/A, {LOOKS} looks", what, found, (0, 0.05)))
    return rates


def covering(runs: int) -> list[Rate]:
    """Intervals of revenue with a true lift of 10 %, plain, adjusted, and always valid."""
    truth = _expected_revenue() * 0.1
    plain, adjusted, relative, always = [], [], [], []
    for generator in generators(runs, 3):
        old, new = revenue(generator, ARM), revenue(generator, ARM, factor=1.1)
        effect = certain(compare(REVENUE, "new", new, old))
        plain.append(holds(effect.interval, truth))
        assert effect.relative_interval is not None
        relative.append(holds(effect.relative_interval, 0.1))
        adjusted.append(holds(certain(compare(REVENUE_CUPED, "new", new, old)).interval, truth))
        both, treated = pooled(new, old)
        order = generator.permutation(2 * ARM) * LOOKS // (2 * ARM)
        seen = looks(both, treated, order, LOOKS, adjusted=False)
        always.append(not left_sequence(seen, 2 * ARM, truth).any())
    name = "revenue, lift 10 %"
    return [
        count(name, "interval holds the truth", plain, COVERAGE),
        count(name, "interval with CUPED holds it", adjusted, COVERAGE),
        count(name, "relative interval holds it", relative, COVERAGE),
        count(name, "confidence sequence holds it at all looks", always, (0.95, 1)),
    ]


def _expected_revenue() -> float:
    """Mean of `revenue`, by its own law, with an error of far less than an interval's length."""
    samples = (revenue(generator, 10**6).numerator for generator in generators(20, 99))
    return float(np.mean([sample.mean() for sample in samples]))


def skewed(runs: int) -> list[Rate]:
    """A/A tests on very skewed revenue, 1 % buyers and sigma 2, as it is and capped."""
    plain, capped = [], []
    for generator in generators(runs, 4):
        arms = [revenue(generator, 2 * ARM, buyers=0.01, sigma=2) for _ in range(2)]
        plain.append(certain(compare(REVENUE, "new", *arms)).p_value < 0.05)
        capped.append(certain(compare(REVENUE_CAPPED, "new", *arms)).p_value < 0.05)
    name = "very skewed revenue, A/A"
    return [
        count(name, "finds an effect (too rarely: conservative)", plain, (0, 0.06)),
        count(name, "capped at the 99.9th percentile, finds one", capped, (0.03, 0.06)),
    ]


def clustering(runs: int) -> list[Rate]:
    """A/A tests on click rate: by unit, as it must be, and by impression, as it must not."""
    by_unit, adjusted, by_impression = [], [], []
    for generator in generators(runs, 5):
        arms = [clicks(generator, ARM // 2) for _ in range(2)]
        by_unit.append(certain(compare(CLICK_RATE, "new", *arms)).p_value < 0.05)
        adjusted.append(certain(compare(CLICK_RATE_CUPED, "new", *arms)).p_value < 0.05)
        each = [_unclustered(arm) for arm in arms]
        by_impression.append(certain(compare(REVENUE, "new", *each)).p_value < 0.05)
    name = "click rate, A/A"
    return [
        count(name, "clustered by unit, finds an effect", by_unit, LEVEL),
        count(name, "clustered by unit with CUPED, finds one", adjusted, LEVEL),
        count(name, "by impression (wrong), finds one", by_impression, (0.3, 1)),
    ]


def _unclustered(sample: Sample) -> Sample:
    """Every impression a unit of its own: the mistake."""
    assert sample.denominator is not None
    taken, shown = int(sample.numerator.sum()), int(sample.denominator.sum())
    return Sample((np.arange(shown) < taken).astype(np.float64))


def quantiles(runs: int) -> list[Rate]:
    """Median and 99th percentile of latency, 10 % slower, clustered by unit and not."""
    rates = []
    for level in (0.5, 0.99):
        metric = latency(level)
        truth = 0.1 * _expected_latency(level)
        clustered, apart = [], []
        for generator in generators(runs, 6):
            new, old = latencies(generator, 1_500, factor=1.1), latencies(generator, 1_500)
            effect = certain(compare_values(metric, "new", new, old))
            clustered.append(holds(effect.interval, truth))
            alone = certain(compare_values(metric, "new", _alone(new), _alone(old)))
            apart.append(holds(alone.interval, truth))
        name = f"latency p{round(100 * level)}, 10 % slower"
        rates.append(count(name, "interval clustered by unit holds the truth", clustered, COVERAGE))
        rates.append(count(name, "by answer (wrong), holds it", apart, (0, 0.93)))
    return rates


def _alone(values: Values) -> Values:
    """Every answer a unit of its own: the mistake."""
    number = len(values.values)
    return Values(values.values, np.arange(number), number)


def _expected_latency(level: float) -> float:
    """Quantile of `latencies`, by its own law."""
    return float(np.quantile(latencies(np.random.default_rng(98), 10**6).values, level))


def watched_quantiles(runs: int) -> list[Rate]:
    """A/A tests on p50 and p99 of latency, watched with the confidence sequence at 20 looks."""
    rates, units = [], 1_500
    for level in (0.5, 0.99):
        found = []
        for generator in generators(runs, 7):
            arms = [latencies(generator, units) for _ in range(2)]
            found.append(any(_sequence_left(arms, n, level, 2 * units) for n in _steps(units, 20)))
        name = f"latency p{round(100 * level)}, A/A, 20 looks"
        rates.append(count(name, "confidence sequence leaves zero at any look", found, (0, 0.05)))
    return rates


def _steps(units: int, number: int) -> Iterator[int]:
    return (units * (at + 1) // number for at in range(number))


def _sequence_left(arms: list[Values], units: int, level: float, planned: int) -> bool:
    """Whether the sequence of the first units of each arm does not hold zero."""
    parts = [
        quantile(Values(arm.values[arm.units < units], arm.units[arm.units < units], units), level)
        for arm in arms
    ]
    if parts[0] is None or parts[1] is None:
        return False
    error = float(np.hypot(parts[0].standard_error, parts[1].standard_error))
    held = always_valid(parts[0].value - parts[1].value, error, (units, units), planned)
    return held is not None and not holds(held, 0.0)


def guarding(runs: int) -> list[Rate]:
    """Guardrails on revenue, asked 10 times, without an effect and with a quarter less revenue."""
    rates = []
    for factor, what, band in (
        (1.0, "a variant without effect is stopped", (0.0, 0.025)),
        (0.75, "a variant that loses a quarter is stopped", (0.8, 1.0)),
    ):
        found = []
        for generator in generators(runs, 8):
            arms = [revenue(generator, 2 * ARM, factor=f) for f in (factor, 1.0)]
            found.append(any(_stopped(REVENUE, arms, n) for n in _steps(2 * ARM, 10)))
        rates.append(count("guardrail on revenue, 10 looks", what, found, band))
    return rates


def _stopped(metric: Metric, arms: list[Sample], units: int) -> bool:
    new, old = (Sample(arm.numerator[:units]) for arm in arms)
    effect = compare(metric, "new", new, old, planned_units=4 * ARM)
    return effect is not None and guard(metric, effect, 0.0).broken


def planned(runs: int) -> list[Rate]:
    """Lifts of 10 % in tests as large as planned from history, plain and with CUPED.

    A plan takes both arms' variance to be history's. A lift that adds the same to every unit keeps
    it so; one that multiplies what buyers spend makes the treatment's variance 21 % larger.
    """
    rates, lift = [], 0.1 * _expected_revenue()
    history = revenue(np.random.default_rng(97), 200_000)
    for metric, factor, name, band in (
        (REVENUE, 1.0, "added", (0.77, 0.83)),
        (REVENUE_CUPED, 1.0, "added, CUPED", (0.77, 0.83)),
        (REVENUE, 1.1, "multiplied", (0.73, 0.79)),
    ):
        units = plan(metric, history, relative_effect=0.1).units_per_variant
        found = []
        for generator in generators(runs, 9):
            old, new = revenue(generator, units), revenue(generator, units, factor=factor)
            if factor == 1:
                new = new._replace(numerator=new.numerator + lift)
            found.append(certain(compare(metric, "new", new, old)).p_value < 0.05)
        what = f"found with {units:,} units a variant, planned for 80 % power"
        rates.append(count(f"revenue, lift 10 %, {name}", what, found, band))
    return rates


STUDIES: tuple[Study, ...] = (
    reading,
    misplanned,
    covering,
    skewed,
    clustering,
    quantiles,
    watched_quantiles,
    guarding,
    planned,
    variants,
    segments,
    days,
)
