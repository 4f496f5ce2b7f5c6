"""Intervals over users, by an independent route."""

import math

import numpy as np
import pytest

from training.intervals import estimate


def test_one_request_a_user_gives_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(3, 2, 40)
    found = estimate(values, np.ones(40), np.arange(40))
    half = 1.96 * values.std(ddof=1) / math.sqrt(40)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_repeating_the_requests_of_every_user_tells_nothing_new() -> None:
    values = np.random.default_rng(1).normal(3, 2, 40)
    once = estimate(values, np.ones(40), np.arange(40))
    thrice = estimate(np.repeat(values, 3), np.ones(120), np.repeat(np.arange(40), 3))
    assert thrice.low == pytest.approx(once.low)


def test_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    covered = 0
    for _ in range(400):
        bases = rng.gamma(2.0, 5.0, len(users))
        habit = rng.beta(2, 6, 60)[users]  # mean 1/4, shared by the requests of a user
        found = estimate(bases * habit, bases, users)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.25 <= found.high
    assert 0.90 <= covered / 400 <= 0.98


def test_a_single_user_has_no_interval() -> None:
    found = estimate(np.ones(3), np.full(3, 2.0), np.zeros(3, dtype=np.int64))
    assert (found.value, found.low, found.high) == (0.5, None, None)
