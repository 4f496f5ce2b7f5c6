"""False positives: A/A tests on units of history, to see whether the error rates hold on them."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Int64, Sample, Values
from abtest.analysis.statistics.aggregates import adjustable
from abtest.analysis.statistics.capping import cap
from abtest.analysis.statistics.comparison import fitted, fitted_values
from abtest.analysis.statistics.effect import CONFIDENCE, AnalysisError, FalsePositives, Interval
from abtest.analysis.statistics.looks import (
    Looks,
    left_sequence,
    looks,
    quantile_looks,
    significant,
)
from abtest.analysis.statistics.sequential import FEWEST_UNITS

FEWEST_HISTORY = 4 * FEWEST_UNITS
"""Units of history that an A/A test needs."""


def false_positives(
    metric: Metric,
    taken: Sample | Values,
    *,
    runs: int = 1000,
    number_looks: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> FalsePositives:
    """Split history at random, again and again, and count the effects that are not there.

    Each run puts every unit into one of two arms by a fair coin and lets the units come in random
    order, with their whole totals, in equal steps from look to look. Metrics are capped and
    adjusted as they declare it; the confidence sequence is tightest at all units.

    Args:
        metric: what is tested.
        taken: units of history; values of a quantile.
        runs: experiments, at least 1.
        number_looks: of each, at least 1.
        seed: of the random numbers.
        progress: called with 1 after each run.

    Raises:
        AnalysisError: a number is out of range, there are fewer than 400 units, or nothing varies.

    Source: Kohavi, Tang & Xu (2020), *Trustworthy Online Controlled Experiments*, chapter 19.
    """
    for name, given in (("runs", runs), ("number_looks", number_looks)):
        if given < 1:
            raise AnalysisError(f"{name} == {given} must be at least 1")
    total, at_looks = _test(metric, taken, number_looks)
    generator = np.random.default_rng(seed)
    fixed = peeking = outside = 0
    for treated, first_look in _splits(total, number_looks, runs, generator):
        seen = at_looks(treated, first_look)
        found = significant(seen)
        fixed += bool(found[-1])
        peeking += bool(found.any())
        outside += bool(left_sequence(seen, total).any())
        if progress is not None:
            progress(1)
    return FalsePositives(
        metric=metric.name,
        runs=runs,
        looks=number_looks,
        units=total,
        fixed=fixed / runs,
        fixed_interval=_wilson(fixed, runs),
        always_valid=outside / runs,
        always_valid_interval=_wilson(outside, runs),
        peeking=peeking / runs,
        peeking_interval=_wilson(peeking, runs),
    )


Test = Callable[[NDArray[np.bool_], Int64], Looks]
"""From whether each unit is treated, and the first look that sees it."""


def _test(metric: Metric, taken: Sample | Values, number_looks: int) -> tuple[int, Test]:
    """Units of history, and the test of any split of them."""
    units = taken.number_units
    if units < FEWEST_HISTORY:
        raise AnalysisError(
            f"metric {metric.name}: history has {units} units, an A/A test needs at least "
            f"{FEWEST_HISTORY}; take more days"
        )
    if isinstance(taken, Values):
        values, level = fitted_values(metric, taken, "history")
        _check_varies(metric, values.values)
        return units, lambda treated, first_look: quantile_looks(
            values, level, treated, first_look, number_looks
        )
    used = fitted(metric, taken, "history")
    if metric.cap_quantile is not None:
        used = cap(used, used, metric.cap_quantile)[0]
    _check_varies(metric, used.numerator)
    return units, lambda treated, first_look: looks(
        used, treated, first_look, number_looks, adjusted=adjustable(used)
    )


def _check_varies(metric: Metric, numbers: np.ndarray) -> None:
    if not len(numbers) or not np.ptp(numbers) > 0:
        raise AnalysisError(
            f"metric {metric.name}: history must differ between units; take more days"
        )


def _splits(
    units: int, number_looks: int, runs: int, generator: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each run, whether each unit is treated and at which look it is first seen."""
    in_order = np.arange(units, dtype=np.int64) * number_looks // units
    for _ in range(runs):
        yield generator.random(units) < 0.5, generator.permutation(in_order)


def _wilson(hits: int, runs: int) -> Interval:
    found = binomtest(hits, runs).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(low=float(found.low), high=float(found.high))
