import numpy as np
import pytest

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.comparison import compare
from abtest.analysis.statistics.effect import AnalysisError, Effect
from abtest.analysis.statistics.guard import guard
from tests.abtest.analysis.declared import MEAN, RATIO, clicks, revenue

BAD_UP = MEAN.model_copy(update={"good": "down"})


def effect(factor: float) -> Effect:
    found = compare(MEAN, "new", revenue(1, 20_000, factor), revenue(2, 20_000))
    assert found is not None
    return found


def test_harm_is_less_of_what_is_good() -> None:
    found = guard(MEAN, effect(0.7), 0.0)
    assert found.broken
    assert found.harm is not None
    assert 0 < found.harm.low < 0.3 < found.harm.high
    assert not guard(MEAN, effect(1.3), 0.0).broken
    assert guard(BAD_UP, effect(1.3), 0.0).broken
    assert not guard(BAD_UP, effect(0.7), 0.0).broken


def test_the_whole_interval_must_be_beyond_the_tolerance() -> None:
    found = guard(MEAN, effect(0.7), 0.0)
    assert found.harm is not None
    assert guard(MEAN, found.effect, found.harm.low - 1e-6).broken
    assert not guard(MEAN, found.effect, found.harm.low + 1e-6).broken


def test_it_takes_the_sequence_and_not_the_fixed_interval() -> None:
    sure = effect(0.93)
    assert sure.interval.high < 0
    assert sure.always_valid is not None
    assert sure.always_valid.high > 0
    assert not guard(MEAN, sure, 0.0).broken


def test_no_effect_breaks_nothing() -> None:
    assert not guard(MEAN, effect(1.0), 0.0).broken


def test_harm_is_seen_where_the_control_has_none() -> None:
    """A control without a single degraded answer has no share to compare with."""
    degraded = RATIO.model_copy(update={"good": "down"})
    old = clicks(1, 5000)._replace(numerator=np.zeros(5000))
    found = compare(degraded, "new", clicks(2, 5000), old)
    assert found is not None
    judged = guard(degraded, found, 0.1)
    assert judged.harm is None
    assert judged.broken
    assert not guard(RATIO, found, 0.1).broken


def test_few_units_break_nothing() -> None:
    found = compare(BAD_UP, "new", Sample(np.arange(50.0) + 500), Sample(np.arange(50.0)))
    assert found is not None
    assert not guard(BAD_UP, found, 0.0).broken


def test_bad_input_is_refused() -> None:
    with pytest.raises(
        AnalysisError, match=r"effect.metric == 'revenue' must be the guardrail's 'cl"
    ):
        guard(RATIO, effect(1.0), 0.0)
    with pytest.raises(AnalysisError, match=r"tolerance == 1 must be in \[0, 1\)"):
        guard(MEAN, effect(1.0), 1)
