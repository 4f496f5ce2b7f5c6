from datetime import date, timedelta

import numpy as np
import pytest
import statsmodels.api as sm

from abtest.analysis.statistics.effect import AnalysisError, DayEffect, Interval
from abtest.analysis.statistics.novelty import novelty


def days(effects: list[float | None], units: list[int] | None = None) -> list[DayEffect]:
    told = [effect for effect in effects if effect is not None]
    return [
        DayEffect(
            day=date(2026, 1, 1) + timedelta(days=at),
            variant="new",
            units=100 if units is None else units[at],
            absolute=sum(told) / len(told),
            interval=Interval(low=-9, high=9),
            always_valid=None,
            that_day=effect,
        )
        for at, effect in enumerate(effects)
    ]


def noisy(slope: float, start: float, seed: int = 1) -> list[float | None]:
    rng = np.random.default_rng(seed)
    return [start + slope * day + rng.normal(0, 0.1) for day in range(20)]


def test_it_is_a_weighted_line() -> None:
    effects, units = noisy(-0.02, 1), list(range(50, 250, 10))
    found = novelty("new", days(effects, units))
    line = sm.WLS(np.array(effects, float), sm.add_constant(np.arange(20)), np.array(units)).fit()
    assert found is not None
    assert found.slope_per_day == pytest.approx(line.params[1], rel=1e-9)
    assert found.p_value == pytest.approx(line.pvalues[1], rel=1e-9)


@pytest.mark.parametrize(
    ("slope", "start", "fades", "grows"),
    [
        (-0.04, 2, True, False),
        (0.04, -2, True, False),
        (0.04, 1, False, True),
        (-0.04, -1, False, True),
        (0, 1, False, False),
    ],
)
def test_it_fades_towards_zero_and_grows_away(
    slope: float, start: float, fades: bool, grows: bool
) -> None:
    found = novelty("new", days(noisy(slope, start)))
    assert found is not None
    assert (found.fades, found.grows) == (fades, grows)


def test_a_line_without_noise() -> None:
    falling = novelty("new", days([10.0 - day for day in range(8)]))
    assert falling is not None
    assert falling.fades
    level = novelty("new", days([1.0] * 8))
    assert level is not None
    assert (level.p_value, level.fades, level.grows) == (1, False, False)


def test_a_week_of_the_variants_own_days_is_needed() -> None:
    week = days(noisy(0, 1)[:7])
    assert novelty("new", week) is not None
    assert novelty("new", week[:6]) is None
    assert novelty("other", week) is None
    assert novelty("new", days([None, *noisy(0, 1)[:6]])) is None


def test_a_day_stands_once() -> None:
    with pytest.raises(AnalysisError, match="days of new must be given once each"):
        novelty("new", days(noisy(0, 1)) * 2)
