"""Board: intervals by arithmetic, and what they are called."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from tests.training.leaderboard.arena import MemoryArena
from training.intervals import Estimate
from training.leaderboard.board import Board, make_board, verdict
from training.leaderboard.curve import mean_curve, smooth
from training.leaderboard.ledger import Ledger
from training.leaderboard.method import chosen
from training.leaderboard.schedule import Plan, run
from training.leaderboard.trial import Moment, Trial
from training.recflow.intervals import Gain

SKILL = {"bce": 0.6, "dftopk": 0.8, "lapsum": 0.8, "sparse": 0.7}
PLAN = Plan(chosen(list(SKILL)), trials=2, seeds=3)


def board_of(arena: MemoryArena, folder: Path, plan: Plan = PLAN) -> Board:
    ledger = Ledger(folder, arena)
    run(plan, ledger)
    return make_board(plan, ledger, "cascade benchmark memory")


def test_a_difference_and_its_interval_are_those_of_the_runs(tmp_path: Path) -> None:
    arena = MemoryArena(SKILL)
    board = board_of(arena, tmp_path)
    recalls = {
        name: [
            arena.recall(Trial(method=name, loss=method.loss, learning_rate=0.02, seed=seed,
                               period="test"))
            for seed in (1, 2, 3)
        ]
        for method in PLAN.methods
        for name in [method.name]
    }  # fmt: skip
    row = next(row for row in board.rows if row.method == "sparse")
    found = row.gains["dftopk"]["joint"]
    difference = np.mean(recalls["sparse"]) - np.mean(recalls["dftopk"])
    assert found.estimate.value == pytest.approx(difference)
    # Requests are equally hard for all, so they cancel and nothing but the seeds is left.
    variances = [np.var(recalls[name], ddof=1) / 3 for name in ("sparse", "dftopk")]
    freedom = sum(variances) ** 2 / sum(variance**2 / 2 for variance in variances)
    half = student.ppf(0.975, freedom) * math.sqrt(sum(variances))
    assert found.estimate.low == pytest.approx(difference - half, abs=1e-6)
    assert found.estimate.high == pytest.approx(difference + half, abs=1e-6)
    # A recall alone has the chance of 100 users of 4 requests too.
    hardness_R = np.random.default_rng(7).normal(0, 0.1, 400)
    totals_U = (hardness_R - hardness_R.mean()).reshape(100, 4).sum(1)
    users = 100 / 99 * (totals_U**2).sum() / 400**2
    seeds = float(np.var(recalls["sparse"], ddof=1)) / 3
    freedom = (users + seeds) ** 2 / (users**2 / 99 + seeds**2 / 2)
    half = student.ppf(0.975, freedom) * math.sqrt(users + seeds)
    recall = row.measures["joint"]
    assert recall.value == pytest.approx(np.mean(recalls["sparse"]))
    assert recall.high == pytest.approx(recall.value + half, rel=1e-5)


def test_rows_stand_by_recall_and_equals_are_not_called_worse(tmp_path: Path) -> None:
    board = board_of(MemoryArena(SKILL), tmp_path)
    names = [row.method for row in board.rows]
    assert set(names[:2]) == {"dftopk", "lapsum"}
    assert names[2:] == ["sparse", "bce"]
    assert board.level_with_leader == (names[1],)
    leader = board.rows[0]
    assert set(leader.gains) == {"dftopk", "bce"} - {leader.method}
    assert verdict(leader.gains["bce"]["joint"]) == "better"
    assert verdict(board.rows[3].gains["dftopk"]["joint"]) == "worse"
    assert leader.setting.learning_rate == 0.02
    assert leader.setting.learning_rate_at_edge
    assert (leader.setting.tau_at_edge, board.rows[3].setting.tau) == (False, None)


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    board = board_of(MemoryArena(SKILL), tmp_path, PLAN._replace(seeds=1))
    assert verdict(board.rows[3].gains["dftopk"]["joint"]) == "one seed, undecided"
    assert len(board.level_with_leader) == 3


def test_intervals_of_few_unlike_seeds_end_where_recall_does(tmp_path: Path) -> None:
    arena = MemoryArena(SKILL)
    arena.noise = 0.2
    board = board_of(arena, tmp_path, PLAN._replace(seeds=2))
    ends = [(row.measures["joint"].low, row.measures["joint"].high) for row in board.rows]
    assert (0.0, 1.0) in ends
    gains = [row.gains["bce"]["joint"].estimate for row in board.rows if row.method != "bce"]
    assert -1.0 in [found.low for found in gains]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.2, "no difference beyond seeds"),
     (0.0, 0.2, "no difference beyond seeds"), (None, None, "one seed, undecided")],
)  # fmt: skip
def test_an_interval_in_words(low: float | None, high: float | None, words: str) -> None:
    found = Gain(estimate=Estimate(value=0.1, low=low, high=high), over_seeds=low is not None)
    assert verdict(found) == words


def test_methods_without_all_finals_are_named_and_not_ranked(tmp_path: Path) -> None:
    arena = MemoryArena(SKILL)

    def diverges(trial: Trial) -> bool:
        final = trial.method == "dftopk" and trial.period == "test" and trial.seed == 2
        return final or trial.method == "sparse"

    arena.diverges = diverges
    arena.stop_after = 15
    ledger = Ledger(tmp_path, arena)
    with pytest.raises(KeyboardInterrupt):
        run(PLAN, ledger)
    board = make_board(PLAN, ledger, "")
    assert [row.method for row in board.rows] == ["bce"]
    assert board.unranked == {
        "dftopk": "training failed in 1 of 3 seeds: the loss became nan in step 3",
        "lapsum": "not finished",
        "sparse": "training failed in every trial of the sweep",
    }


def test_a_curve_is_smoothed_by_what_came_before_alone() -> None:
    curve = [Moment(float(i), float(i >= 50)) for i in range(100)]
    found = smooth(curve)
    assert found[0].seconds == 4  # of five moments, a twentieth
    assert [moment.recall for moment in found if 49 <= moment.seconds <= 54] == pytest.approx(
        [0, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 1]
    )
    long = smooth([Moment(float(i), 0.5) for i in range(5000)])
    assert len(long) <= 201
    assert long[-1] == (4999.0, 0.5)
    (mean,) = mean_curve([[Moment(1, 0.2)], [Moment(3, 0.4)]])
    assert mean == pytest.approx((2, 0.3))
    assert mean_curve([[Moment(1, 0.2)], curve]) == (Moment(1, 0.2),)
    assert mean_curve([[], []]) == ()
