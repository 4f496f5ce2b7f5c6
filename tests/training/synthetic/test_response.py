"""Exact earnings equal a Monte Carlo of the same world, and the oracle's lists cannot be beaten."""

from itertools import permutations

import numpy as np
import pytest

from training.synthetic.lists import noisy_lists, oracle_lists, popular_list
from training.synthetic.response import Lists, earnings, respond, seen_probability, values
from training.synthetic.world import World, WorldError, make_world

DRAWS = 400_000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(50, 60, 2)


def test_mean_and_variance_equal_monte_carlo(world: World) -> None:
    lists = Lists(np.array([3, 7]), np.array([0, 1]), oracle_lists(world, np.array([3, 7]), 6))
    exact = earnings(world, lists)
    for case in range(2):
        many = Lists(*(np.repeat(part[case : case + 1], DRAWS, axis=0) for part in lists))
        bought = respond(world, many, np.random.default_rng(case)).bought_BP
        money = (bought * world.price_micros_I[many.items_BP] / 1e6).sum(axis=1)
        error = money.std() / DRAWS**0.5
        assert abs(money.mean() - exact.mean_B[case]) < 3.5 * error
        squared = (money - exact.mean_B[case]) ** 2
        assert abs(squared.mean() - exact.variance_B[case]) < 3.5 * squared.std() / DRAWS**0.5


def test_who_clicks_has_seen_and_who_buys_has_clicked(world: World) -> None:
    users = np.arange(50)
    lists = Lists(users, users % 2, oracle_lists(world, users, 20))
    found = respond(world, lists, np.random.default_rng(0))
    assert (found.clicked_BP <= found.seen_BP).all()
    assert (found.bought_BP <= found.clicked_BP).all()
    # A position is seen only if all before it are.
    assert (np.diff(found.seen_BP.astype(int), axis=1) <= 0).all()


def test_earnings_of_a_list_are_the_sum_over_positions(world: World) -> None:
    lists = Lists(np.array([5]), np.array([1]), np.array([[4, 9]]))
    worth = values(world, np.array([5]))[0]
    expected = 1 * worth[4] + 2**-0.9 * worth[9]
    assert earnings(world, lists).mean_B[0] == pytest.approx(expected, rel=1e-12)


def test_no_order_of_no_items_beats_the_oracle(world: World) -> None:
    user = np.array([11])
    best = oracle_lists(world, user, 3)
    top = np.argsort(-values(world, user)[0])[:5]
    tried = np.array(list(permutations(top.tolist(), 3)))
    money = earnings(
        world, Lists(np.repeat(user, len(tried)), np.zeros(len(tried), np.int64), tried)
    ).mean_B
    assert earnings(world, Lists(user, np.array([0]), best)).mean_B[0] == money.max()


def test_lists_between_the_oracle_and_nothing(world: World) -> None:
    users = np.arange(50)

    def earned(items: np.ndarray) -> float:
        return float(earnings(world, Lists(users, users % 2, items)).mean_B.mean())

    oracle, little, much = (
        earned(noisy_lists(world, users, 10, noise=noise, seed=1)) for noise in (0.0, 0.3, 3.0)
    )
    common = earned(np.tile(popular_list(world, 10), (50, 1)))
    assert oracle > little > much
    assert oracle > common


def test_noise_belongs_to_the_pair(world: World) -> None:
    alone = noisy_lists(world, np.array([8]), 10, noise=1.0, seed=1)
    among = noisy_lists(world, np.array([2, 8, 8]), 10, noise=1.0, seed=1)
    assert (among[1] == alone[0]).all()
    assert (among[2] == alone[0]).all()


def test_what_cannot_be_asked(world: World) -> None:
    with pytest.raises(WorldError, match=r"length = 61 must be in \[1, 60\], the number of items"):
        popular_list(world, 61)
    with pytest.raises(WorldError, match=r"noise = -1 must not be negative; 0 is the oracle"):
        noisy_lists(world, np.array([0]), 5, noise=-1, seed=0)
    with pytest.raises(WorldError, match=r"device 2 must be in \[0, 1\], as in DEVICES"):
        seen_probability(Lists(np.array([0]), np.array([2]), np.array([[1]])))
