from typing import Literal

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from abtest.analysis.statistics.effect import AnalysisError, Effect, Interval
from abtest.analysis.statistics.multiplicity import adjust


def effect(p_value: float) -> Effect:
    return Effect(
        metric="revenue",
        variant="new",
        control_value=1,
        variant_value=1,
        absolute=0,
        interval=Interval(low=-1, high=1),
        relative=None,
        relative_interval=None,
        p_value=p_value,
        units=10,
        method="none",
    )


@pytest.mark.parametrize(("method", "theirs"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_it_agrees_with_statsmodels(method: Literal["holm", "bh"], theirs: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        p_values = rng.random(rng.integers(1, 30)) ** 3
        found = adjust([effect(p) for p in p_values], method)
        assert [one.p_value for one in found] == list(p_values)
        expected = multipletests(p_values, method=theirs)[1]
        assert [one.p_adjusted for one in found] == pytest.approx(list(expected), rel=1e-9)


def test_by_hand() -> None:
    effects = [effect(p) for p in (0.04, 0.01, 0.03)]
    assert [one.p_adjusted for one in adjust(effects, "holm")] == pytest.approx([0.06, 0.03, 0.06])
    assert [one.p_adjusted for one in adjust(effects, "bh")] == pytest.approx([0.04, 0.03, 0.04])


def test_nothing_and_something_else() -> None:
    assert adjust([], "holm") == ()
    with pytest.raises(AnalysisError, match="method == 'none' must be 'holm' or 'bh'"):
        adjust([effect(0.1)], "none")  # type: ignore[arg-type]
