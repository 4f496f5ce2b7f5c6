"""Sweep: as many settings for one method as for the other."""

from typing import get_args

import pytest
import torch

from tests.training.losses.cases import leaves, loss_of, random_case
from training.leaderboard.method import BenchmarkError, Method, chosen, methods
from training.leaderboard.sweep import MOST_TRIALS, TAUS, settings, sweep
from training.losses.config import LossName


def test_every_loss_is_a_method_and_lcron_is_one_for_each_sort() -> None:
    found = methods()
    assert {method.loss.name for method in found} == set(get_args(LossName))
    assert [method.name for method in found if method.loss.name == "lcron"] == [
        "lcron-neuralsort", "lcron-softsort", "lcron-diffsort",
    ]  # fmt: skip
    assert len({(method.loss.name, method.loss.sort) for method in found}) == len(found)
    assert set(TAUS) <= {method.name for method in found if method.tempered}


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_a_method_is_swept_over_temperatures_if_its_loss_reads_them(method: Method) -> None:
    case = random_case(2)
    losses = []
    for tau in (0.5, 3.0):
        criterion = loss_of(method.loss.name, 2, tau=tau, sort=method.loss.sort)
        losses.append(criterion(leaves(case.scores), case.judgments).total)
    assert method.tempered != torch.equal(*losses)


def test_names_choose_methods_and_losses() -> None:
    names = [method.name for method in chosen(["dftopk", "lcron", "bce"])]
    assert names == ["bce", "lcron-neuralsort", "lcron-softsort", "lcron-diffsort", "dftopk"]
    with pytest.raises(BenchmarkError, match=r"^no method 'ndcg'; known are bce, icc, "):
        chosen(["bce", "ndcg"])


@pytest.mark.parametrize("trials", range(1, MOST_TRIALS + 1))
def test_every_method_gets_the_same_number_of_different_settings(trials: int) -> None:
    for method in methods():
        found = sweep(method, trials)
        assert len({(trial.learning_rate, trial.loss.tau) for trial in found}) == trials
        assert {(trial.seed, trial.period) for trial in found} == {(0, "validation")}


def test_a_grid_grows_in_rectangles_and_without_a_temperature_in_learning_rates() -> None:
    with_tau, without_tau = chosen(["dftopk"])[0], chosen(["bce"])[0]
    for trials, shape in ((1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 2)), (9, (3, 3))):
        rates, taus = zip(*settings(with_tau, trials), strict=True)
        assert (len(set(rates)), len(set(taus))) == shape
    assert (0.01, 500.0) in settings(with_tau, 6)  # as published
    assert len({rate for rate, _ in settings(without_tau, 6)}) == 6


@pytest.mark.parametrize("trials", [0, 13])
def test_a_budget_has_its_range(trials: int) -> None:
    with pytest.raises(BenchmarkError, match=rf"^trials = {trials} must be in \[1, 12\]$"):
        settings(methods()[0], trials)
