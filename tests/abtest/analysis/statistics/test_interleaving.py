import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.interleaving import preference


def test_a_unit_is_one_vote() -> None:
    a = np.array([5.0] * 60 + [0.0] * 40 + [1.0] * 20)
    b = np.array([1.0] * 60 + [9.0] * 40 + [1.0] * 20)
    found = preference(a, b)
    assert (found.units, found.wins_a, found.wins_b, found.ties) == (120, 60, 40, 20)
    assert found.share_a == 0.6
    assert found.p_value == pytest.approx(stats.binomtest(60, 100).pvalue)
    assert found.share_interval is not None
    assert (found.share_interval.low, found.share_interval.high) == pytest.approx(
        proportion_confint(60, 100, method="wilson")
    )
    student = stats.ttest_1samp(a - b, 0).confidence_interval()
    assert found.difference == pytest.approx((a - b).mean())
    assert found.difference_interval is not None
    assert (found.difference_interval.low, found.difference_interval.high) == pytest.approx(student)


def test_without_a_preference_it_finds_none() -> None:
    rng = np.random.default_rng(1)
    p_values = [
        preference(rng.poisson(0.7, 300).astype(float), rng.poisson(0.7, 300).astype(float)).p_value
        for _ in range(500)
    ]
    assert np.mean([p is not None and p < 0.05 for p in p_values]) <= 0.07


def test_without_credit_there_is_no_preference() -> None:
    found = preference(np.zeros(5), np.zeros(5))
    assert (found.share_a, found.p_value, found.ties, found.difference) == (None, None, 5, 0)
    nobody = preference(np.zeros(0), np.zeros(0))
    assert (nobody.difference, nobody.difference_interval) == (None, None)


def test_bad_input_is_refused() -> None:
    with pytest.raises(AnalysisError, match="credit_a has 2 units and credit_b 3; give both of ev"):
        preference(np.zeros(2), np.zeros(3))
    with pytest.raises(AnalysisError, match="credit_a and credit_b must be finite"):
        preference(np.zeros(1), np.array([np.inf]))
