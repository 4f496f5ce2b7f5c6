import random
from collections.abc import Sequence

import pytest
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from abtest.analysis.statistics import UnitTotals, lift, mean_interval, sample_ratio


def totals(micros: Sequence[int]) -> UnitTotals:
    return UnitTotals(len(micros), sum(micros), sum(value * value for value in micros))


def revenue(seed: int, units: int, scale: float = 1.0) -> list[int]:
    """Zero-inflated lognormal totals in micros."""
    rng = random.Random(seed)
    return [
        0 if rng.random() < 0.6 else int(rng.lognormvariate(2, 1) * scale * 10**6)
        for _ in range(units)
    ]


def test_welch_agrees_with_scipy_and_statsmodels() -> None:
    old, new = revenue(1, 700), revenue(2, 900, 1.2)
    found = lift("new", totals(new), totals(old))
    assert found is not None
    a, b = [v / 1e6 for v in new], [v / 1e6 for v in old]
    welch = stats.ttest_ind(a, b, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert found.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert found.absolute == pytest.approx(sum(a) / 900 - sum(b) / 700, rel=1e-12)
    assert found.absolute_interval.low == pytest.approx(interval.low, rel=1e-9)
    assert found.absolute_interval.high == pytest.approx(interval.high, rel=1e-9)
    low, high = CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(usevar="unequal")
    assert found.absolute_interval.low == pytest.approx(low, rel=1e-9)
    assert found.absolute_interval.high == pytest.approx(high, rel=1e-9)
    assert found.relative is not None
    assert found.relative_interval is not None
    assert found.relative == pytest.approx(found.absolute / (sum(b) / 700), rel=1e-9)
    assert found.relative_interval.low < found.relative < found.relative_interval.high


def test_totals_far_above_64_bits_stay_exact() -> None:
    big = [10**15 + value for value in (1, 2, 3, 4)]
    found = totals(big)
    assert found.squares > 2**64
    assert found.variance == 5 / (3 * 10**12)


def test_mean_interval_is_students() -> None:
    values = revenue(3, 50)
    found = mean_interval(totals(values))
    amounts = [value / 1e6 for value in values]
    low, high = stats.t.interval(0.95, 49, sum(amounts) / 50, stats.sem(amounts))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert mean_interval(totals([5])) is None


def test_no_test_without_two_units_or_variance() -> None:
    some = totals([0, 3])
    assert lift("new", totals([1]), some) is None
    assert lift("new", some, totals([])) is None
    assert lift("new", totals([0, 0]), totals([0, 0, 0])) is None
    assert UnitTotals(0, 0, 0).mean == 0


@pytest.mark.parametrize("new", [[0, 0, 0], [-4, 4, 1, -1], [5, -9, 2], [-10_000_000, 10_000_001]])
def test_without_a_clear_mean_there_is_no_relative_lift(new: list[int]) -> None:
    old = [3, 5, 1, 0]
    found = lift("new", totals(new), totals(old))
    assert found is not None
    assert found.relative is None
    assert found.relative_interval is None
    welch = stats.ttest_ind(new, old, equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    interval = welch.confidence_interval(0.95)
    assert found.absolute_interval.low == pytest.approx(interval.low / 1e6, rel=1e-9)


def test_false_positives_and_coverage_without_an_effect() -> None:
    rng = random.Random(7)
    rejected = 0
    runs = 1000
    for _ in range(runs):
        arms = [totals([int(rng.gammavariate(1, 5) * 1e6) for _ in range(100)]) for _ in range(2)]
        found = lift("new", *arms)
        assert found is not None
        outside = not found.absolute_interval.low <= 0 <= found.absolute_interval.high
        assert outside == (found.p_value < 0.05)
        rejected += outside
    assert 0.035 < rejected / runs < 0.065


def test_sample_ratio_agrees_with_scipy() -> None:
    few = sample_ratio({"old": 60, "new": 40}, {"old": 0.5, "new": 0.5}, "old")
    assert few.p_value == pytest.approx(stats.binomtest(40, 100, 0.5).pvalue, rel=1e-9)
    assert few.ok
    assert few.expected == {"old": 50, "new": 50}
    skewed = sample_ratio({"old": 5000, "new": 5400}, {"old": 0.5, "new": 0.5}, "old")
    assert not skewed.ok
    weighted = sample_ratio({"old": 8010, "new": 1990}, {"old": 0.8, "new": 0.2}, "old")
    assert weighted.ok
    assert weighted.expected == {"old": 8000, "new": 2000}


def test_sample_ratio_sees_every_arm() -> None:
    weights = {"old": 0.4, "new": 0.3, "newer": 0.3}
    assert sample_ratio({"old": 4000, "new": 3000, "newer": 3010}, weights, "old").ok
    assert not sample_ratio({"old": 4000, "new": 3000, "newer": 2500}, weights, "old").ok
    assert not sample_ratio({"old": 0, "new": 0, "newer": 500}, weights, "old").ok
