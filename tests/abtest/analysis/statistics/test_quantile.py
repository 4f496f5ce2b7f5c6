import math

import numpy as np
import pytest
from scipy import stats

from abtest.analysis.sample import Values
from abtest.analysis.statistics.comparison import compare_values
from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.quantile import quantile
from tests.abtest.analysis.declared import P90, answers


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_standard_error_is_that_of_resampled_units(level: float) -> None:
    values = answers(1, 800)
    rng, found = np.random.default_rng(2), quantile(values, level)
    groups = np.split(values.values, np.flatnonzero(np.diff(values.units)) + 1)
    drawn = [
        np.quantile(np.concatenate([groups[i] for i in rng.integers(0, 800, 800)]), level)
        for _ in range(600)
    ]
    assert found is not None
    assert found.value == np.quantile(values.values, level)
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.15)
    alone = quantile(
        Values(values.values, np.arange(len(values.values)), len(values.values)), level
    )
    assert alone is not None
    assert alone.standard_error < 0.8 * found.standard_error


def test_an_effect_on_a_quantile() -> None:
    new, old = answers(1, 800, 1.3), answers(2, 800)
    effect = compare_values(P90, "new", new, old)
    assert effect is not None
    assert effect.absolute == pytest.approx(
        np.quantile(new.values, 0.9) - np.quantile(old.values, 0.9)
    )
    errors = [found.standard_error for v in (new, old) if (found := quantile(v, 0.9)) is not None]
    error = math.hypot(*errors)
    z = effect.absolute / error
    assert effect.p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)
    half = stats.norm.ppf(0.975) * error
    assert effect.interval.high == pytest.approx(effect.absolute + half, rel=1e-9)
    assert effect.relative == pytest.approx(0.3, abs=0.1)
    assert effect.relative_interval is not None
    assert effect.relative_interval.low < 0.3 < effect.relative_interval.high
    assert effect.always_valid is not None
    assert effect.always_valid.low < effect.interval.low
    assert effect.units == 1600
    assert effect.method == "delta method of quantiles"
    scaled = compare_values(P90.model_copy(update={"scale": 2.0}), "new", new, old)
    assert scaled is not None
    assert scaled.absolute == pytest.approx(2 * effect.absolute)
    assert scaled.p_value == pytest.approx(effect.p_value)


def test_units_without_values_do_not_change_it_much() -> None:
    values = answers(1, 800)
    more = values._replace(number_units=900)
    found, other = quantile(values, 0.5), quantile(more, 0.5)
    assert found is not None
    assert other is not None
    assert found.standard_error == pytest.approx(other.standard_error, rel=2e-3)


def test_too_few_values_tell_nothing() -> None:
    assert quantile(answers(1, 1), 0.5) is None
    assert quantile(Values(np.ones(1), np.zeros(1, np.int64), 2), 0.5) is None
    assert quantile(answers(1, 20), 0.99) is None
    assert compare_values(P90, "new", answers(1, 5), answers(2, 800)) is None


def test_values_that_do_not_vary_are_no_test() -> None:
    same = Values(np.full(500, 7.0), np.arange(500), 500)
    assert compare_values(P90, "new", same, same) is None


def test_values_must_be_finite() -> None:
    bad = Values(np.array([1.0, np.inf]), np.arange(2), 2)
    with pytest.raises(AnalysisError, match="latency_p90: the numbers of new must be finite"):
        compare_values(P90, "new", bad, answers(1, 5))
