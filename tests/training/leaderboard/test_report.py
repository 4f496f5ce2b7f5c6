"""Report: what a reader is told."""

from io import BytesIO
from pathlib import Path

import matplotlib.image
import pytest

from tests.training.leaderboard.arena import MemoryArena
from training.leaderboard.board import Board, make_board
from training.leaderboard.ledger import Ledger
from training.leaderboard.method import chosen, methods
from training.leaderboard.pictures import draw_compute, draw_negatives, draw_recall
from training.leaderboard.report import write_report
from training.leaderboard.schedule import Plan, run
from training.leaderboard.table import page, summary

SKILL = {"bce": 0.6, "dftopk": 0.8, "lapsum": 0.8, "sparse": 0.7}
PLAN = Plan(chosen(list(SKILL)), trials=2, seeds=3, negatives=(0, 40))


def board_of(folder: Path, plan: Plan = PLAN, noise: float = 0.001) -> Board:
    arena = MemoryArena({method.name: SKILL.get(method.name, 0.7) for method in plan.methods})
    arena.noise = noise
    ledger = Ledger(folder, arena)
    run(plan, ledger)
    return make_board(plan, ledger, "cascade benchmark memory --seeds 3")


def test_a_report_holds_all_numbers_and_a_page_that_says_them_plainly(tmp_path: Path) -> None:
    board = board_of(tmp_path)
    write_report(board, tmp_path)
    assert Board.model_validate_json((tmp_path / "leaderboard.json").read_bytes()) == board
    for name in ("recall.png", "negatives.png", "compute.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in (tmp_path / "leaderboard.md").read_text()
    text = (tmp_path / "leaderboard.md").read_text()
    leader, second = (row.method for row in board.rows[:2])
    assert f"**{leader}** leads with joint recall 0." in text
    assert f" There is no difference beyond seeds to {second}.\n" in text
    assert "- `cascade benchmark memory --seeds 3`\n" in text
    assert "- Data: made-up, fingerprint ffffffffffff.\n- Nothing is trained.\n" in text
    section = text.split("## joint recall")[1].split("## ")[0]
    lines = {line.split(" | ")[0]: line for line in section.splitlines()}
    cells = lines["| sparse"].split(" | ")
    gain = board.rows[2].gains["dftopk"]["joint"].estimate
    assert gain.low is not None
    assert gain.high is not None
    assert cells[1] == f"{board.rows[2].measures['joint'].value:.4f}"
    assert cells[3] == f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}): worse"
    assert cells[4].endswith(": better")
    assert "| learning rate |" in text
    assert "| sparse | 0.02 * | 1 |" in text


def test_a_leader_that_is_better_than_all_is_said_to_be(tmp_path: Path) -> None:
    plan = Plan(chosen(["bce", "dftopk"]), trials=2, seeds=2)
    found = board_of(tmp_path / "two", plan, noise=1e-5)
    assert summary(found).endswith(" It is better than every other method here.")
    found = board_of(tmp_path / "seed", plan._replace(seeds=1))
    assert summary(found).endswith("does not decide whether a method is better.")
    found = board_of(tmp_path / "one", Plan(chosen(["bce"]), trials=2, seeds=2))
    assert summary(found).startswith("**bce** leads with joint recall 0.")
    assert "| against" not in page(found)


def test_an_unfinished_board_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, MemoryArena(SKILL))
    board = make_board(PLAN, ledger, "cascade benchmark memory")
    write_report(board, tmp_path)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "No method is finished yet." in text
    assert "| lapsum | not finished |" in text
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (14, 2)])
def test_pictures_render_whatever_their_number_of_methods(
    tmp_path: Path, count: int, seeds: int
) -> None:
    board = board_of(tmp_path, Plan(methods()[:count], trials=1, seeds=seeds, negatives=(0, 40)))
    for draw in (draw_recall, draw_negatives, draw_compute):
        height, width, _ = matplotlib.image.imread(BytesIO(draw(board))).shape
        assert 150 < height < 1500
        assert 1000 < width < 2000
