"""Schedule: what runs, in which order, and what it goes on with after it was cut off."""

from collections import Counter
from pathlib import Path

import pytest

from tests.training.leaderboard.arena import MemoryArena
from training.leaderboard.ledger import Ledger
from training.leaderboard.method import chosen
from training.leaderboard.progress import remaining, render_plan
from training.leaderboard.schedule import Plan, run, schedule, seconds_left
from training.leaderboard.trial import Trial

SKILL = {"bce": 0.6, "dftopk": 0.8, "lapsum": 0.75, "sparse": 0.7, "lcron-softsort": 0.72,
         "lcron-neuralsort": 0.71, "lcron-diffsort": 0.5}  # fmt: skip
PLAN = Plan(chosen(list(SKILL)), trials=3, seeds=2, negatives=(0, 40))


@pytest.fixture
def arena() -> MemoryArena:
    return MemoryArena(SKILL)


def test_budgets_are_equal_and_the_best_setting_of_the_sweep_is_final(
    arena: MemoryArena, tmp_path: Path
) -> None:
    entries = run(PLAN, Ledger(tmp_path, arena))
    assert all(entry.result is not None for entry in entries)
    swept = Counter(trial.method for trial in arena.ran if trial.period == "validation")
    assert swept == dict.fromkeys(SKILL, 3)
    final = [entry.trial for entry in entries if entry.phase == "final" and entry.trial]
    assert Counter(trial.method for trial in final) == dict.fromkeys(SKILL, 2)
    assert {trial.learning_rate for trial in final} == {arena.best_rate}
    # Other seeds than the sweep's.
    assert {trial.seed for trial in final} == {1, 2}
    assert {trial.period for trial in final} == {"test"}


def test_negatives_are_compared_for_the_losses_named_and_the_best_other(
    arena: MemoryArena, tmp_path: Path
) -> None:
    entries = run(PLAN, Ledger(tmp_path, arena))
    found = [entry for entry in entries if entry.phase == "negatives"]
    methods = [entry.method for entry in found[::2]]
    assert methods == ["bce", "lcron-softsort", "dftopk", "lapsum"]
    assert [entry.trial.negatives for entry in found[:2] if entry.trial] == [0, 40]
    # A final has no negatives, so it need not be run again.
    assert len(arena.ran) == 7 * (3 + 2) + 4


def test_negatives_are_compared_for_a_row_by_its_own_name(
    arena: MemoryArena, tmp_path: Path
) -> None:
    plan = PLAN._replace(negatives_losses=("lcron-diffsort", "dftopk"))
    entries = run(plan, Ledger(tmp_path, arena))
    found = [entry.method for entry in entries if entry.phase == "negatives"]
    assert found[::2] == ["lcron-diffsort", "dftopk", "lapsum"]


def test_a_benchmark_that_is_killed_goes_on_where_it_stopped(
    arena: MemoryArena, tmp_path: Path
) -> None:
    arena.stop_after = 10
    with pytest.raises(KeyboardInterrupt):
        run(PLAN, Ledger(tmp_path, arena))
    arena.stop_after = None
    run(PLAN, Ledger(tmp_path, arena))
    twice = [trial for trial, times in Counter(arena.ran).items() if times > 1]
    assert twice == [arena.ran[10]]
    before = len(arena.ran)
    run(PLAN, Ledger(tmp_path, arena))
    assert len(arena.ran) == before
    # A wider sweep runs what is new alone.
    run(PLAN._replace(trials=4), Ledger(tmp_path, arena))
    assert len(arena.ran) == before + 7


def test_a_method_that_never_lasts_is_given_up_after_its_sweep(
    arena: MemoryArena, tmp_path: Path
) -> None:
    arena.diverges = lambda trial: trial.method == "dftopk"
    entries = run(PLAN, Ledger(tmp_path, arena))
    phases = Counter(entry.phase for entry in entries if entry.method == "dftopk")
    assert phases == {"sweep": 3}
    assert Counter(entry.phase for entry in entries if entry.method == "bce")["final"] == 2


def test_a_setting_that_does_not_last_loses(arena: MemoryArena, tmp_path: Path) -> None:
    def diverges(trial: Trial) -> bool:
        return trial.learning_rate == arena.best_rate

    arena.diverges = diverges
    entries = run(PLAN, Ledger(tmp_path, arena))
    rates = {entry.trial.learning_rate for entry in entries if entry.phase == "final" and
             entry.trial}  # fmt: skip
    assert rates == {0.01}


def test_the_plan_lists_all_trials_and_estimates_their_time(
    arena: MemoryArena, tmp_path: Path
) -> None:
    plan = Plan(chosen(["bce", "dftopk"]), trials=2, seeds=1)
    ledger = Ledger(tmp_path, arena)
    assert render_plan(schedule(plan, ledger)).splitlines() == [
        "    open  sweep: bce lr 0.01 tau 1 seed 0",
        "    open  sweep: dftopk lr 0.01 tau 1 seed 0",
        "    open  sweep: bce lr 0.02 tau 1 seed 0",
        "    open  sweep: dftopk lr 0.02 tau 1 seed 0",
        "    open  final: bce, chosen by the sweep",
        "    open  final: dftopk, chosen by the sweep",
        "6 trials (4 sweep, 2 final), 0 done; no trial is finished yet to estimate the time from",
    ]
    arena.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        run(plan, ledger)
    entries = schedule(plan, ledger)
    text = render_plan(entries).splitlines()
    assert text[-1].startswith("6 trials (4 sweep, 2 final), 3 done; about ")
    assert text[2] == f"{arena.recall(arena.ran[2]):8.4f}  sweep: bce lr 0.02 tau 1 seed 0"
    assert text[4] == "    open  final: bce lr 0.02 tau 1 seed 1"
    assert text[5] == "    open  final: dftopk, chosen by the sweep"  # of which one trial is open
    arena.stop_after = None
    assert render_plan(run(plan, ledger)).endswith("6 done; nothing left to run")


def test_the_time_left_is_that_of_the_same_method(arena: MemoryArena, tmp_path: Path) -> None:
    plan = Plan(chosen(["bce", "dftopk", "sparse"]), trials=1, seeds=2)
    ledger = Ledger(tmp_path, arena)
    assert seconds_left(schedule(plan, ledger)) is None
    arena.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(plan, ledger)
    seconds = {"bce": 60.0, "dftopk": 120.0}
    entries = [
        entry._replace(result=entry.result.model_copy(update={"wall_seconds": seconds[name]}))
        if entry.result is not None
        else entry
        for entry in schedule(plan, ledger)
        for name in [entry.method]
    ]
    # Sparse takes as long as the mean of the others.
    assert seconds_left(entries) == 2 * 60 + 2 * 120 + 3 * (60 + 120) / 2
    assert seconds_left(entries[:4]) == 60 + (60 + 120) / 2
    assert remaining(entries) == "about 10 min left"
    slow = [entry._replace(result=entry.result.model_copy(update={"wall_seconds": 5400.0}))
            if entry.result else entry for entry in entries]  # fmt: skip
    assert remaining(slow) == "about 10.5 h left"
