import numpy as np
import pytest

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Sample, Values
from abtest.analysis.statistics.comparison import compare, compare_values
from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.false_positives import false_positives
from abtest.analysis.statistics.looks import left_sequence, looks, quantile_looks, significant
from tests.abtest.analysis.declared import (
    CAPPED,
    CUPED,
    MEAN,
    P90,
    RATIO,
    RATIO_CUPED,
    answers,
    clicks,
    revenue,
)


def part(sample: Sample, chosen: np.ndarray) -> Sample:
    return Sample(*(None if column is None else column[chosen] for column in sample))  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [MEAN, CUPED, RATIO, RATIO_CUPED], ids=lambda m: m.kind)
def test_every_look_is_what_compare_says_then(metric: Metric) -> None:
    sample = clicks(1, 3000) if metric.denominator else revenue(1, 3000)
    rng = np.random.default_rng(2)
    treated, first = rng.random(3000) < 0.5, rng.integers(0, 5, 3000)
    seen = looks(sample, treated, first, 5, adjusted=metric.covariate_days > 0)
    found, left = significant(seen), left_sequence(seen, 3000)
    for at in range(5):
        old, new = (part(sample, (first <= at) & (treated == side)) for side in (False, True))
        effect = compare(metric, "new", new, old, planned_units=3000)
        assert effect is not None
        assert effect.always_valid is not None
        assert seen.difference[at] == pytest.approx(effect.absolute, rel=1e-8)
        half = (effect.interval.high - effect.interval.low) / 2
        t = half / seen.standard_error[at]
        assert t == pytest.approx(1.96, rel=5e-3)
        assert bool(found[at]) == (effect.p_value < 0.05)
        assert bool(left[at]) == (not effect.always_valid.low <= 0 <= effect.always_valid.high)


def test_every_look_at_a_quantile_is_what_compare_values_says_then() -> None:
    values, rng = answers(1, 3000), np.random.default_rng(2)
    treated, first = rng.random(3000) < 0.5, rng.integers(0, 5, 3000)
    seen = quantile_looks(values, 0.9, treated, first, 5)
    found, left = significant(seen), left_sequence(seen, 3000)
    for at in range(5):
        arms = []
        for side in (True, False):
            chosen = (first <= at) & (treated == side)
            events = chosen[values.units]
            numbers = (np.cumsum(chosen) - 1)[values.units[events]]
            arms.append(Values(values.values[events], numbers, int(chosen.sum())))
        effect = compare_values(P90, "new", *arms, planned_units=3000)
        assert effect is not None
        assert effect.always_valid is not None
        assert seen.units[at].tolist() == [arms[1].number_units, arms[0].number_units]
        assert seen.difference[at] == pytest.approx(effect.absolute, rel=1e-12)
        half = (effect.interval.high - effect.interval.low) / 2
        assert half / seen.standard_error[at] == pytest.approx(1.959963984540054, rel=1e-9)
        assert bool(found[at]) == (effect.p_value < 0.05)
        assert bool(left[at]) == (not effect.always_valid.low <= 0 <= effect.always_valid.high)


def test_too_few_answers_for_a_quantile_find_nothing() -> None:
    few = Values(np.arange(8.0), np.arange(8), 8)
    seen = quantile_looks(few, 0.9, np.arange(8) % 2 == 0, np.arange(8) // 4, 3)
    assert not significant(seen).any()
    assert not left_sequence(seen, 8, fewest=1).any()
    assert seen.units.tolist() == [[2, 2], [4, 4], [4, 4]]


def test_the_error_rates_hold_for_a_quantile() -> None:
    found = false_positives(P90, answers(4, 1500), runs=400, number_looks=10)
    assert found.fixed_interval.low <= 0.05 <= found.fixed_interval.high
    assert found.always_valid_interval.low <= 0.05
    assert found.peeking > 2 * found.fixed
    assert found.units == 1500


def test_the_error_rates_hold_on_history_and_peeking_breaks_them() -> None:
    found = false_positives(MEAN, revenue(3, 4000), runs=600, number_looks=100)
    assert found.fixed_interval.low <= 0.05 <= found.fixed_interval.high
    assert found.always_valid_interval.low <= 0.05
    assert found.always_valid < 0.05
    assert found.peeking >= 0.25
    assert (found.units, found.runs, found.looks) == (4000, 600, 100)


def test_clustered_clicks_hold_too() -> None:
    found = false_positives(RATIO_CUPED, clicks(3, 2000), runs=300, number_looks=20)
    assert found.fixed_interval.low <= 0.05 <= found.fixed_interval.high


def test_the_same_seed_gives_the_same_rates() -> None:
    history, ticks = revenue(3, 500), list[int]()
    one, two, other = (
        false_positives(CAPPED, history, runs=50, seed=seed, progress=ticks.append)
        for seed in (1, 1, 2)
    )
    assert one == two != other
    assert ticks == [1] * 150


def test_bad_input_is_refused() -> None:
    with pytest.raises(AnalysisError, match="runs == 0 must be at least 1"):
        false_positives(MEAN, revenue(1, 500), runs=0)
    with pytest.raises(AnalysisError, match="number_looks == 0 must be at least 1"):
        false_positives(MEAN, revenue(1, 500), number_looks=0)
    with pytest.raises(
        AnalysisError, match="history has 399 units, an A/A test needs at least 400"
    ):
        false_positives(MEAN, revenue(1, 399))
    with pytest.raises(AnalysisError, match="history must differ between units"):
        false_positives(MEAN, Sample(np.ones(500)))
    with pytest.raises(AnalysisError, match="history must differ between units"):
        false_positives(P90, Values(np.ones(500), np.arange(500), 500))
    with pytest.raises(AnalysisError, match="history must differ between units"):
        false_positives(P90, Values(np.ones(0), np.arange(0), 500))
