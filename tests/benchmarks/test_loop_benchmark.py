"""The closed loop, reduced: what is learnt from the server's own log earns more."""

from pathlib import Path

import pytest

from benchmarks.loop.picture import draw
from benchmarks.loop.rounds import CURRENT, FIRST, Plan, Round, run
from benchmarks.loop.table import page, shares

pytestmark = pytest.mark.slow

PLAN = Plan(users=300, items=300, rounds=1, days=7, seeds=1, epochs=2)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[Round]:
    return run(PLAN, 0, tmp_path_factory.mktemp("loop") / "work", lambda *_: None)


def test_retraining_on_the_log_raises_expected_revenue(rounds: list[Round]) -> None:
    before, after = rounds
    for one in rounds:
        for arm in one.arms.values():
            assert arm.expected < arm.oracle
            assert arm.bestsellers <= arm.best_common < arm.oracle
    raised = {
        name: (after.arms[name].expected / after.arms[name].oracle)
        / (before.arms[name].expected / before.arms[name].oracle)
        for name in (FIRST, CURRENT)
    }
    # The one that stays as it was shows how much is chance.
    assert raised[CURRENT] > 1.1
    assert raised[CURRENT] > raised[FIRST]


def test_what_visitors_paid_is_what_was_expected(rounds: list[Round]) -> None:
    for one in rounds:
        expected = sum(arm.visits * arm.expected for arm in one.arms.values())
        assert one.earned == pytest.approx(expected, rel=0.25)


def test_page_and_picture(rounds: list[Round], tmp_path: Path) -> None:
    about = {"command": "c", "date": "d", "took": "t", "machine": "m", "versions": "v"}
    text = page(rounds, PLAN, about, "loop.png")
    assert f"| 1 | {shares(rounds[1])['retrained']:.3f} (" in text
    draw(rounds, tmp_path / "loop.png")
    assert (tmp_path / "loop.png").stat().st_size > 5_000
