import pytest
from scipy.stats import chisquare

from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.sample_ratio import SAMPLE_RATIO_P, sample_ratio


def test_three_arms_are_tested_together() -> None:
    units = {"no": 21306, "mens": 21307, "womens": 21387}
    found = sample_ratio(units, dict.fromkeys(units, 1 / 3))
    assert found.p_value == pytest.approx(0.903693, abs=5e-7)
    assert found.ok
    assert found.expected == pytest.approx(dict.fromkeys(units, 64000 / 3))


def test_there_is_no_correction_for_continuity() -> None:
    found = sample_ratio({"a": 520, "b": 480}, {"a": 0.5, "b": 0.5})
    assert found.p_value == pytest.approx(chisquare([520, 480]).pvalue, rel=1e-12)


def test_weights_count_and_may_have_any_scale() -> None:
    units = {"a": 9000, "b": 1000}
    assert sample_ratio(units, {"a": 0.9, "b": 0.1}).p_value == pytest.approx(1)
    assert sample_ratio(units, {"a": 9, "b": 1}).expected == {"a": 9000, "b": 1000}
    assert not sample_ratio(units, {"a": 0.5, "b": 0.5}).ok


def test_a_broken_split_is_found() -> None:
    found = sample_ratio({"a": 50_000, "b": 51_500}, {"a": 0.5, "b": 0.5})
    assert found.p_value < SAMPLE_RATIO_P
    assert not found.ok


def test_without_units_nothing_is_wrong_yet() -> None:
    found = sample_ratio({"a": 0, "b": 0}, {"a": 0.5, "b": 0.5})
    assert (found.p_value, found.ok, found.expected) == (1, True, {"a": 0, "b": 0})


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(AnalysisError, match=r"units are of \['a'\] and weights of \['b'\]"):
        sample_ratio({"a": 1}, {"b": 1})
    with pytest.raises(AnalysisError, match="weight of b == 0 must be above 0"):
        sample_ratio({"a": 1, "b": 1}, {"a": 1, "b": 0})
    with pytest.raises(AnalysisError, match="units of a == -1 must be at least 0"):
        sample_ratio({"a": -1, "b": 1}, {"a": 1, "b": 1})
