import math
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.planning import detectable_effect, plan
from tests.abtest.analysis.declared import CAPPED, CUPED, MEAN, P90, RATIO, clicks, revenue

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
