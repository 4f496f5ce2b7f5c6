"""Ledger: a trial is run once, and what was cut off counts for nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.leaderboard.arena import MemoryArena
from training.leaderboard.ledger import RESULT, VALUES, Ledger
from training.leaderboard.method import BenchmarkError
from training.leaderboard.trial import Trial
from training.losses.config import LossConfig

TRIAL = Trial(
    method="dftopk", loss=LossConfig(name="dftopk"), learning_rate=0.02, seed=1, period="test"
)


@pytest.fixture
def arena() -> MemoryArena:
    return MemoryArena({"dftopk": 0.8})


def nothing(*_: int) -> None:
    pass


def test_a_finished_trial_is_found_by_a_later_ledger(arena: MemoryArena, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, arena)
    assert ledger.find(TRIAL) is None
    made = ledger.run(TRIAL, nothing)
    again = Ledger(tmp_path, arena)
    assert again.find(TRIAL) == made
    assert made.score == pytest.approx(arena.recall(TRIAL))
    assert made.scores["rank"] == pytest.approx(arena.recall(TRIAL) / 2)
    assert made.requests_per_s == 100_000 / made.seconds
    values_MR, users_R = again.values([TRIAL], "joint")
    assert values_MR.shape == (1, 400)
    assert values_MR.mean() == pytest.approx(made.score)
    assert users_R[:5].tolist() == [0, 0, 0, 0, 1]
    (folder,) = (tmp_path / "trials").iterdir()
    assert {path.name for path in folder.iterdir()} == {RESULT, VALUES}  # no weights


def test_whatever_differs_is_another_trial_but_a_name(arena: MemoryArena, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, arena)
    others = [
        TRIAL.model_copy(update=update)
        for update in (
            {"learning_rate": 0.01}, {"seed": 2}, {"period": "validation"}, {"negatives": 40},
            {"loss": LossConfig(name="dftopk", tau=2.0)},
        )
    ]  # fmt: skip
    assert len({ledger.key(trial) for trial in (TRIAL, *others)}) == 6
    # The number of negatives that all trials have anyhow.
    assert ledger.key(TRIAL.model_copy(update={"negatives": 0})) == ledger.key(TRIAL)
    bigger = Ledger(tmp_path, MemoryArena({"dftopk": 0.8}, size=2))
    assert bigger.key(TRIAL) != ledger.key(TRIAL)


def test_a_killed_trial_is_run_anew(arena: MemoryArena, tmp_path: Path) -> None:
    arena.stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path, arena).run(TRIAL, nothing)
    (folder,) = (tmp_path / "trials").iterdir()
    assert (folder / "run" / "weights").exists()
    assert Ledger(tmp_path, arena).find(TRIAL) is None
    arena.stop_after = None
    ledger = Ledger(tmp_path, arena)
    assert ledger.run(TRIAL, nothing).failed is None
    assert not (folder / "run").exists()
    assert len(arena.ran) == 2


def test_training_that_does_not_last_is_a_result(arena: MemoryArena, tmp_path: Path) -> None:
    arena.diverges = lambda _: True
    found = Ledger(tmp_path, arena).run(TRIAL, nothing)
    assert (found.failed, found.score, found.scores) == ("the loss became nan in step 3", 0, {})
    assert Ledger(tmp_path, arena).find(TRIAL) == found


def test_results_of_other_data_are_not_mixed_in(arena: MemoryArena, tmp_path: Path) -> None:
    Ledger(tmp_path, arena).run(TRIAL, nothing)
    other = MemoryArena({"dftopk": 0.8}, fingerprint="0123456789abcdef")
    with pytest.raises(
        BenchmarkError,
        match=r"result.json is a result on data ffffffffffff, the data given is made-up "
        r"0123456789ab; give the same --data, or choose another --out$",
    ):
        Ledger(tmp_path, other)


def test_results_of_another_format_are_not_mixed_in(arena: MemoryArena, tmp_path: Path) -> None:
    Ledger(tmp_path, arena).run(TRIAL, nothing)
    (path,) = tmp_path.glob(f"trials/*/{RESULT}")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    with pytest.raises(
        BenchmarkError,
        match=r"has format 0, this version writes 1; choose another --out, or remove that folder$",
    ):
        Ledger(tmp_path, arena)


@pytest.mark.parametrize("content", ['{"format": 1', '{"format": 1}', "[]", "{}"])
def test_a_damaged_result_says_how_to_go_on(
    arena: MemoryArena, tmp_path: Path, content: str
) -> None:
    Ledger(tmp_path, arena).run(TRIAL, nothing)
    (path,) = tmp_path.glob(f"trials/*/{RESULT}")
    path.write_text(content)
    with pytest.raises(
        BenchmarkError, match=r"is damaged; remove the folder .* and run the benchmark again$"
    ):
        Ledger(tmp_path, arena)


def test_values_that_are_gone_say_how_to_go_on(arena: MemoryArena, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, arena)
    ledger.run(TRIAL, nothing)
    (path,) = tmp_path.glob(f"trials/*/{VALUES}")
    np.savez(path, other=np.zeros(3))
    with pytest.raises(BenchmarkError, match=r"values.npz is missing or damaged; remove the fold"):
        ledger.values([TRIAL], "joint")
