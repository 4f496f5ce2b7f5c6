import numpy as np
import pytest

from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.statistics.off_policy import policy_value


def logged(seed: int, decisions: int, units: int) -> tuple[np.ndarray, ...]:
    """Rewards, propensities and agreement with a policy whose true value is 2."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, units, decisions)
    propensity = rng.choice([0.2, 0.5, 0.8], decisions)
    taken = rng.random(decisions) < propensity
    taste = rng.normal(0, 1, units)[unit]
    reward = np.where(taken, 2 + taste, 0.5) + rng.normal(0, 0.5, decisions)
    return reward, propensity, taken, unit


def test_by_hand() -> None:
    rewards = np.tile([1.0, 0.0, 3.0, 5.0], 100)
    propensity = np.tile([0.5, 0.5, 0.25, 0.8], 100)
    taken = np.tile([True, True, True, False], 100)
    found = policy_value(rewards, propensity, taken)
    assert found.ips == pytest.approx((2 * 1 + 2 * 0 + 4 * 3) / 4)
    assert found.snips == pytest.approx((2 * 1 + 2 * 0 + 4 * 3) / (2 + 2 + 4))
    assert found.effective_units == pytest.approx(100 * (2 + 2 + 4) ** 2 / (4 + 4 + 16))
    assert (found.decisions, found.taken, found.warnings) == (400, 300, ())


def test_intervals_hold_the_truth_and_know_units() -> None:
    held, apart = 0, 0
    for seed in range(400):
        rewards, propensity, taken, units = logged(seed, 2000, 300)
        one = policy_value(rewards, propensity, taken, units).interval
        other = policy_value(rewards, propensity, taken).interval
        assert one is not None
        assert other is not None
        held += one.low <= 2 <= one.high
        apart += other.low <= 2 <= other.high
    assert 0.92 <= held / 400 <= 0.975
    assert apart / 400 < 0.85


def test_a_few_heavy_weights_tell_nothing() -> None:
    rewards, propensity = np.ones(5000), np.full(5000, 0.5)
    propensity[0] = 1e-6
    found = policy_value(rewards, propensity, np.ones(5000, bool))
    assert found.effective_units < 2
    assert (found.ips, found.snips, found.interval) == (None, None, None)
    assert found.warnings == (
        "the decisions weigh as much as 1 units, below 100: too few to tell the policy's value",
    )
    assert policy_value(rewards, propensity, np.zeros(5000, bool)).effective_units == 0


def test_bad_input_is_refused() -> None:
    one, yes = np.ones(3), np.ones(3, bool)
    with pytest.raises(
        AnalysisError, match=r"have \[2, 3\] numbers; each must have one a decision"
    ):
        policy_value(np.ones(2), one, yes)
    with pytest.raises(AnalysisError, match="at least one"):
        policy_value(np.ones(0), np.ones(0), np.ones(0, bool))
    with pytest.raises(AnalysisError, match="rewards must be finite"):
        policy_value(np.array([1, np.nan, 1]), one, yes)
    with pytest.raises(AnalysisError, match=r"logged_propensities must be in \(0, 1\]"):
        policy_value(one, np.array([1, 0, 1.0]), yes)
    with pytest.raises(AnalysisError, match="units must be indices of at least 0"):
        policy_value(one, one, yes, np.array([0, -1, 1]))
