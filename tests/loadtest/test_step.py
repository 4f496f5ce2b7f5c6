"""Arrivals: a Poisson process of the right rate, whole and in shares."""

from dataclasses import asdict
from random import Random

import numpy as np
import pytest
from scipy import stats

from loadtest.step import Loop, Phase, Step, arrivals_s, constant


def test_gaps_at_a_constant_rate_are_exponential() -> None:
    times = list(arrivals_s(Phase("p", 200.0, 50.0, 50.0), 1.0, Random(1)))
    assert times[0] > 0
    assert times == sorted(times)
    assert times[-1] < 200
    gaps = np.diff(times)
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    assert len(times) == pytest.approx(200 * 50, abs=4 * (200 * 50) ** 0.5)


def test_a_ramp_has_the_rate_of_each_moment() -> None:
    phase = Phase("ramp", 100.0, 0.0, 200.0)
    times = np.array(list(arrivals_s(phase, 1.0, Random(2))))
    # The number until t is 100 * (t / 10)**2, so t**2 is uniform.
    assert stats.kstest((times / 100) ** 2, "uniform").pvalue > 0.01
    assert len(times) == pytest.approx(100 * 200 / 2, abs=4 * 100)
    assert [phase.level(t) for t in (0.0, 50.0, 100.0)] == [0.0, 100.0, 200.0]


def test_shares_add_up_to_the_whole() -> None:
    phase = Phase("p", 100.0, 90.0, 90.0)
    counts = [len(list(arrivals_s(phase, 1 / 3, Random(seed)))) for seed in range(3)]
    assert sum(counts) == pytest.approx(9000, abs=4 * 9000**0.5)
    assert max(counts) - min(counts) < 400


def test_nothing_arrives_at_rate_0() -> None:
    assert list(arrivals_s(Phase("p", 10.0, 0.0, 0.0), 1.0, Random(0))) == []


def test_a_step_comes_back_from_its_message() -> None:
    phases = (Phase("before", 1.0, 5.0, 5.0), Phase("spike", 0.5, 25.0, 30.0))
    step = Step("spike", Loop.OPEN, phases)
    assert Step.from_dict(asdict(step)) == step
    assert step.duration_s == 1.5
    assert [phase.constant for phase in phases] == [True, False]
    assert constant("x", Loop.CLOSED, 8, 1.0).phases[0].name == "8 users"
    assert constant("x", Loop.OPEN, 8, 1.0).phases[0].name == "8/s"
