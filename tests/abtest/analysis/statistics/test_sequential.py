import json
import math
from pathlib import Path

import pytest

from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.sequential import (
    DEFAULT_PLANNED_UNITS,
    FEWEST_UNITS,
    always_valid,
    half_width,
    mixing_variance,
)

CASES = json.loads((Path(__file__).parent / "fixtures" / "confseq.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES)
def test_the_width_is_that_of_confseq(case: dict[str, float]) -> None:
    width = half_width(case["v"], case["v_opt"], case["alpha"])
    assert width * case["v"] == pytest.approx(case["two_sided"], rel=1e-10)


def test_it_is_tightest_relative_to_a_fixed_one_where_it_was_planned() -> None:
    def price(units: int) -> float:
        return half_width(units, 10_000) * math.sqrt(units)

    assert price(10_000) == pytest.approx(min(map(price, range(1000, 50_000, 500))), rel=1e-3)


def test_both_arms_make_the_variance() -> None:
    found = always_valid(1.0, 0.1, (300, 500), 2000)
    assert found is not None
    half = math.sqrt(0.1**2 * 800) * half_width(800, 2000)
    assert (found.low, found.high) == pytest.approx((1 - half, 1 + half), rel=1e-12)
    assert half > 1.96 * 0.1


def test_without_a_plan_it_is_ten_thousand_units() -> None:
    assert always_valid(0, 1, (200, 200)) == always_valid(0, 1, (200, 200), DEFAULT_PLANNED_UNITS)


def test_few_units_tell_nothing() -> None:
    assert always_valid(0, 1, (FEWEST_UNITS - 1, 10_000)) is None


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(AnalysisError, match="planned_units == 0 must be above 0"):
        always_valid(0, 1, (200, 200), 0)
    with pytest.raises(AnalysisError, match=r"alpha == 1 must be in \(0, 1\)"):
        mixing_variance(100, 1)
