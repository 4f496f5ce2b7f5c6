"""The laws of the split, on fewer units than `python -m benchmarks.split` takes."""

import pytest
from scipy.stats import chi2_contingency

from benchmarks.split import laws

UNITS = 20_000


@pytest.fixture(scope="module")
def chosen() -> laws.Choices:
    return laws.choose(laws.layered(60), UNITS)


def test_60_layers_are_independent_of_each_other(chosen: laws.Choices) -> None:
    found = laws.independence(chosen)
    assert found.pairs == 60 * 59 // 2
    assert found.rejected / found.pairs < 0.02
    assert found.smallest > 0.01 / found.pairs


def test_60_layers_on_a_part_of_the_slots_are_independent() -> None:
    found = laws.independence(laws.choose(laws.layered(20, (0, 5000)), UNITS))
    assert found.rejected / found.pairs < 0.03
    assert found.smallest > 0.01 / found.pairs


def test_independence_is_pearsons_test(chosen: laws.Choices) -> None:
    two = chosen[:, :2]
    table = [[int(((two == (i, j)).all(axis=1)).sum()) for j in range(3)] for i in range(3)]
    assert laws.independence(two).smallest == pytest.approx(chi2_contingency(table).pvalue)


def test_the_test_of_independence_can_fail(chosen: laws.Choices) -> None:
    copied = chosen[:, :2].copy()
    copied[: UNITS // 20, 1] = copied[: UNITS // 20, 0]
    assert laws.independence(copied).rejected == 1


def test_shares_are_met_in_every_layer(chosen: laws.Choices) -> None:
    found = laws.shares(chosen)
    assert found.rejected <= 3
    assert found.smallest > 0.01 / found.layers


def test_a_ramp_in_steps_moves_nobody() -> None:
    found = laws.ramped((0.05, 0.2, 0.5, 1.0), UNITS)
    assert found.moved == 0
    assert found.inside[-1] == UNITS
    for share, inside in zip(found.steps, found.inside, strict=True):
        assert inside / UNITS == pytest.approx(share, abs=0.015)
