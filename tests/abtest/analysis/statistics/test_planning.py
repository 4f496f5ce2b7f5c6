import math
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower

from abtest.analysis.sample import Sample, Values
from abtest.analysis.statistics.comparison import compare_values
from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.planning import detectable_effect, plan
from tests.abtest.analysis.declared import (
    CAPPED,
    CUPED,
    MEAN,
    P90,
    RATIO,
    answers,
    clicks,
    revenue,
)

HISTORY = revenue(1, 20_000)


def test_a_plan_agrees_with_statsmodels() -> None:
    values = HISTORY.numerator
    found = plan(MEAN, HISTORY, relative_effect=0.05, power=0.9, alpha=0.01)
    size = 0.05 * values.mean() / values.std(ddof=1)
    theirs = TTestIndPower().solve_power(effect_size=size, power=0.9, alpha=0.01)
    assert found.units_per_variant == pytest.approx(theirs, abs=1)
    assert found.baseline == values.mean()
    assert (found.days, found.variance_reduction) == (None, None)


def test_units_and_effect_are_each_others_inverse() -> None:
    found = plan(MEAN, HISTORY, relative_effect=0.05)
    effect = detectable_effect(MEAN, HISTORY, units_per_variant=found.units_per_variant)
    assert effect == pytest.approx(0.05, rel=1e-3)


def test_cuped_saves_the_squared_correlation() -> None:
    plain = plan(CUPED, HISTORY._replace(covariate=None), relative_effect=0.05)
    cuped = plan(CUPED, HISTORY, relative_effect=0.05)
    assert HISTORY.covariate is not None
    saved = np.corrcoef(HISTORY.numerator, HISTORY.covariate)[0, 1] ** 2
    assert cuped.variance_reduction == pytest.approx(saved)
    assert cuped.units_per_variant == pytest.approx(plain.units_per_variant * (1 - saved), rel=1e-3)


def test_few_and_very_many_units_can_be_planned() -> None:
    few = plan(MEAN, HISTORY, relative_effect=2.0)
    theirs = TTestIndPower().solve_power(
        effect_size=2 * HISTORY.numerator.mean() / HISTORY.numerator.std(ddof=1),
        power=0.8,
        alpha=0.05,
    )
    assert theirs - 2 <= few.units_per_variant <= theirs + 1
    many = plan(MEAN, HISTORY, relative_effect=1e-4, variants=10)
    assert many.units_per_variant > 10**8
    assert detectable_effect(
        MEAN, HISTORY, units_per_variant=many.units_per_variant, variants=10
    ) == pytest.approx(1e-4, rel=1e-3)


def test_days_and_more_variants() -> None:
    two = plan(MEAN, HISTORY, relative_effect=0.05, units_per_day=1000)
    assert two.days == two.units_per_variant * 2 / 1000
    three = plan(MEAN, HISTORY, relative_effect=0.05, variants=3)
    alone = plan(MEAN, HISTORY, relative_effect=0.05, alpha=0.025)
    assert three.units_per_variant == alone.units_per_variant > two.units_per_variant


def test_a_loss_needs_as_many_as_a_gain() -> None:
    gain, loss = (plan(MEAN, HISTORY, relative_effect=effect) for effect in (0.05, -0.05))
    assert gain.units_per_variant == loss.units_per_variant


def test_capping_and_ratios_are_planned() -> None:
    capped = plan(CAPPED, HISTORY, relative_effect=0.05)
    assert capped.units_per_variant < plan(MEAN, HISTORY, relative_effect=0.05).units_per_variant
    history = clicks(1, 20_000)
    found = plan(RATIO, history, relative_effect=0.05)
    assert history.denominator is not None
    ratio = history.numerator.sum() / history.denominator.sum()
    linear = (history.numerator - ratio * history.denominator) / history.denominator.mean()
    size = (0.05 * ratio) ** 2
    assert found.units_per_variant == pytest.approx(
        2 * (1.959964 + 0.841621) ** 2 * linear.var() / size, rel=1e-3
    )


def test_planned_units_find_a_quantile_s_effect_as_often_as_planned() -> None:
    found = plan(P90, answers(1, 20_000), relative_effect=0.08)
    units, runs = found.units_per_variant, 300
    p_values = []
    for run in range(runs):
        effect = compare_values(
            P90, "new", answers(2 * run, units, 1.08), answers(2 * run + 1, units)
        )
        assert effect is not None
        p_values.append(effect.p_value)
    # Three standard errors of a share of 300.
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.8, abs=0.07)


def test_units_and_effect_of_a_quantile_are_each_others_inverse() -> None:
    history = answers(1, 5000)
    found = plan(P90, history, relative_effect=0.05, variants=3, power=0.9)
    assert found.baseline == np.quantile(history.values, 0.9)
    assert found.variance_reduction is None
    effect = detectable_effect(
        P90, history, units_per_variant=found.units_per_variant, variants=3, power=0.9
    )
    assert effect == pytest.approx(0.05, rel=1e-3)
    seconds = P90.model_copy(update={"scale": 1e-3})
    assert plan(seconds, history, relative_effect=0.05, variants=3, power=0.9) == pytest.approx(
        found.model_copy(update={"baseline": found.baseline / 1000})
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relative_effect": 0}, "relative_effect == 0 must be a share other than 0"),
        ({"relative_effect": math.nan}, "relative_effect == nan must be a share"),
        ({"power": 1}, r"power == 1 must be in \(0, 1\)"),
        ({"alpha": 0}, r"alpha == 0 must be in \(0, 1\)"),
        ({"power": 0.01}, "power == 0.01 must be above alpha == 0.05"),
        ({"variants": 1}, "variants == 1 must be at least 2"),
        ({"units_per_day": 0}, "units_per_day == 0 must be above 0"),
    ],
)
def test_bad_numbers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        plan(MEAN, HISTORY, **{"relative_effect": 0.05, **change})


def test_history_must_tell_something() -> None:
    with pytest.raises(AnalysisError, match="history has 1 units, a plan needs at least 2"):
        plan(MEAN, Sample(np.ones(1)), relative_effect=0.05)
    with pytest.raises(AnalysisError, match="history's value == 0 must be above 0"):
        plan(MEAN, Sample(np.zeros(50)), relative_effect=0.05)
    with pytest.raises(AnalysisError, match="history's value == 1 must be above 0 and differ"):
        plan(MEAN, Sample(np.ones(50)), relative_effect=0.05)
    with pytest.raises(AnalysisError, match="units_per_variant == 1 must be at least 2"):
        detectable_effect(MEAN, HISTORY, units_per_variant=1)
    with pytest.raises(AnalysisError, match="kind == quantile must be mean or ratio"):
        plan(P90, HISTORY, relative_effect=0.05)
    with pytest.raises(AnalysisError, match="kind == mean must be quantile to compare values"):
        plan(MEAN, answers(1, 800), relative_effect=0.05)
    with pytest.raises(AnalysisError, match=r"has 5 events, too few to tell the 0.9 quantile"):
        plan(P90, Values(np.arange(5.0), np.arange(5), 5), relative_effect=0.05)
    with pytest.raises(AnalysisError, match="history's value == 3 must be above 0 and differ"):
        plan(P90, Values(np.full(500, 3.0), np.arange(500), 500), relative_effect=0.05)
    below = Values(np.linspace(-5, 1, 501), np.arange(501), 501)
    with pytest.raises(AnalysisError, match="history's value == -2 must be above 0 and differ"):
        plan(P90.model_copy(update={"quantile": 0.5}), below, relative_effect=0.05)
