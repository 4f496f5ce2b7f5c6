"""Intervals over users and seeds: by hand, by an independent route, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from training.recflow.intervals import gain, over_seeds


def test_interval_over_seeds_is_that_of_student() -> None:
    found = over_seeds([0.5, 0.6, 0.7])
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert found.value == pytest.approx(0.6)
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half))
    alone = over_seeds([0.5])
    assert (alone.value, alone.low, alone.high) == (0.5, None, None)


def test_gain_of_two_runs_is_a_paired_test_over_users() -> None:
    rng = np.random.default_rng(2)
    hard_R = rng.random(30)
    values_R, reference_R = hard_R + rng.normal(0.02, 0.1, 30), hard_R + rng.normal(0, 0.1, 30)
    found = gain(values_R[None], reference_R[None], np.arange(30))
    expected = stats.ttest_rel(values_R, reference_R).confidence_interval(0.95)
    assert found.estimate.value == pytest.approx((values_R - reference_R).mean())
    assert (found.estimate.low, found.estimate.high) == pytest.approx(tuple(expected))
    assert not found.over_seeds
    twice = gain(
        np.repeat(values_R, 2)[None], np.repeat(reference_R, 2)[None], np.arange(30).repeat(2)
    )
    assert twice.estimate.low == pytest.approx(found.estimate.low)


def test_gain_of_seeds_alone_is_the_test_of_welch() -> None:
    """Requests that all come out alike leave the seeds as the only chance."""
    values_M, reference_M = np.array([0.7, 0.72, 0.69]), np.array([0.66, 0.6])
    found = gain(values_M[:, None].repeat(8, 1), reference_M[:, None].repeat(8, 1), np.arange(8))
    test = stats.ttest_ind(values_M, reference_M, equal_var=False)
    assert found.over_seeds
    expected = tuple(test.confidence_interval(0.95))
    assert (found.estimate.low, found.estimate.high) == pytest.approx(expected)


def test_what_is_better_has_to_be_so_over_seeds() -> None:
    rng = np.random.default_rng(0)
    low_MR, high_MR = rng.normal(0.5, 0.01, (3, 50)), rng.normal(0.6, 0.01, (3, 50))
    users_R = np.arange(50)
    assert gain(high_MR, low_MR, users_R).better
    assert not gain(low_MR, high_MR, users_R).better
    alone = gain(high_MR[:1], low_MR, users_R)
    assert (alone.better, alone.over_seeds) == (False, False)
    assert alone.estimate.low is not None
    assert alone.estimate.low > 0
    single = gain(high_MR, low_MR, np.zeros(50, dtype=np.int64))
    assert (single.estimate.low, single.better) == (None, False)
    same = gain(low_MR[:1], low_MR[:1], users_R)
    assert (same.estimate.low, same.estimate.high, same.better) == (0, 0, False)


def test_interval_of_a_gain_covers_the_truth_as_often_as_it_says() -> None:
    """Users differ in what they gain, and seeds in how well they do."""
    rng = np.random.default_rng(9)
    users_R = np.repeat(np.arange(40), rng.integers(1, 9, 40))
    covered = 0
    for _ in range(400):
        hard_R = rng.normal(0.5, 0.2, 40)[users_R]
        liking_R = rng.normal(0.03, 0.05, 40)[users_R]  # mean gain 0.03
        sides = []
        for level_R in (hard_R + liking_R, hard_R):
            seeds_M1 = rng.normal(0, 0.01, (4, 1))
            sides.append(level_R + seeds_M1 + rng.normal(0, 0.05, (4, len(users_R))))
        found = gain(sides[0], sides[1], users_R).estimate
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.03 <= found.high
    assert 0.91 <= covered / 400 <= 0.99
