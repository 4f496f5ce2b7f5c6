"""Arenas: the real trainers, and the command as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli import main
from tests.shop import tiny_config
from training.config import OWN_LISTS
from training.data.dataset import PreparedDataset
from training.leaderboard.method import BenchmarkError, methods
from training.leaderboard.recflow import PROTOCOLS, RecFlowArena
from training.leaderboard.shop import ShopArena, linear_shares
from training.leaderboard.trial import Trial
from training.losses.config import LossConfig
from training.recflow.config import RecFlowConfig
from training.recflow.evaluation import evaluate
from training.recflow.generator import generate
from training.recflow.log import PreparedLog
from training.recflow.preparation import prepare

SHARED = RecFlowConfig(name="shared", batch_size=32, embedding_width=8, units=32)
TINY = (
    "--set", "batch_size=32", "--set", "embedding_width=2", "--set", "units=8",
    "--trials", "1", "--seeds", "2", "--methods", "bce,dftopk",
)  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """Four days of 50 requests."""
    folder = tmp_path_factory.mktemp("leaderboard")
    generate(folder / "published", requests=200, days=4, seed=0)
    prepare(folder / "published", folder / "prepared")
    return PreparedLog(folder / "prepared")


def trial(**changes: object) -> Trial:
    given = {"method": "bce", "loss": LossConfig(name="bce"), "learning_rate": 0.01, "seed": 1,
             "period": "test", **changes}  # fmt: skip
    return Trial.model_validate(given)


def nothing(*_: int) -> None:
    pass


def benchmark(*words: str | Path) -> Result:
    runner = CliRunner(env={"OMP_NUM_THREADS": "1"})
    return runner.invoke(main, ["benchmark", *map(str, words)])


def test_recflow_trains_until_the_day_before_the_one_it_is_judged_on(log: PreparedLog) -> None:
    days = log.meta.days
    arena = RecFlowArena(log, SHARED)
    assert arena.config(trial()).last_train_day == days[2]
    assert arena.config(trial(period="validation")).last_train_day == days[1]
    assert f"judged on {days[3]} (50 requests)" in arena.description[0]
    earlier = RecFlowArena(log, SHARED.model_copy(update={"last_train_day": days[1]}))
    assert earlier.config(trial(period="validation")).last_train_day == days[0]
    assert [measure.key for measure in arena.measures[:3]] == [
        "strict.joint", "strict.retrieval.recall", "strict.retrieval.ndcg",
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, 3])
def test_recflow_needs_a_day_to_choose_by_and_one_to_test(log: PreparedLog, place: int) -> None:
    day = log.meta.days[place]
    with pytest.raises(BenchmarkError, match=rf"^training until {day} leaves no day .*which has 4"):
        RecFlowArena(log, SHARED.model_copy(update={"last_train_day": day}))


def test_recflow_knows_its_days(log: PreparedLog) -> None:
    with pytest.raises(BenchmarkError, match=r"^last_train_day = '2020-01-01' is no day of"):
        RecFlowArena(log, SHARED.model_copy(update={"last_train_day": "2020-01-01"}))


def test_a_run_on_recflow_is_judged_as_it_is_evaluated(log: PreparedLog, tmp_path: Path) -> None:
    arena = RecFlowArena(log, SHARED.model_copy(update={"batch_size": 10}))
    steps: list[tuple[int, int]] = []
    found = arena.run(trial(learning_rate=0.05), tmp_path / "run", lambda *step: steps.append(step))
    assert set(found.judged) == {measure.key for measure in arena.measures}
    for protocol in PROTOCOLS:
        (score,) = evaluate([tmp_path / "run"], log, protocol, batch_size=50).runs
        expected = {f"{protocol}.joint": score.joint_recall.value}
        for stage in score.stages:
            expected[f"{protocol}.{stage.name}.recall"] = stage.recall.value
            expected[f"{protocol}.{stage.name}.ndcg"] = stage.ndcg.value
        judged = {key: found.judged[key].values_R.mean() for key in expected}
        assert judged == pytest.approx(expected)
        assert 0 < judged[f"{protocol}.joint"] < 1
    assert steps == [(step, 15) for step in range(1, 16)]
    assert (found.requests, found.steps, len(found.curve)) == (150, 15, 15)


@pytest.mark.slow
def test_a_benchmark_on_recflow_ends_with_tables_and_is_not_run_again(
    log: PreparedLog, tmp_path: Path
) -> None:
    words = ("recflow", "--data", log.path, "--out", tmp_path, "--negatives", "0,20", *TINY)
    done = benchmark(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"\n{tmp_path / 'leaderboard.md'}\n")
    board = json.loads((tmp_path / "leaderboard.json").read_text())
    assert {row["method"] for row in board["rows"]} == {"bce", "dftopk"}
    assert set(board["negatives"]) == {"bce", "dftopk"}
    assert board["command"].startswith("cascade benchmark recflow --data ")
    assert {path.name for path in tmp_path.iterdir()} == {
        "trials", "leaderboard.json", "leaderboard.md", "recall.png", "negatives.png",
        "compute.png",
    }  # fmt: skip
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/*")}
    assert len(written) == 2 * (1 + 2 * 2 + 2)  # values of finals and negatives too
    assert benchmark(*words).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/*")} == written
    plan = benchmark(*words, "--plan").stdout
    assert plan.endswith(
        "10 trials (2 sweep, 4 final, 4 negatives), 10 done; nothing left to run\n"
    )


@pytest.mark.slow
def test_a_shop_is_judged_by_recall_and_revenue(shop: PreparedDataset, tmp_path: Path) -> None:
    own = tiny_config(tmp_path, "dftopk")
    assert ShopArena(shop, own).losses == OWN_LISTS
    candidates = own.candidates.model_copy(update={"shared": True})
    arena = ShopArena(shop, own.model_copy(update={"candidates": candidates}))
    assert set(arena.losses) == {method.loss.name for method in methods()}
    for name in ("lcron", "bce"):
        loss = LossConfig.model_validate({"name": name})
        one = trial(method=name, loss=loss, period="validation")
        found = arena.run(one, tmp_path / name, nothing)
        assert set(found.judged) == {"recall", "revenue"}
        assert len(found.curve) > 0
        recall = found.judged["recall"].values_R.mean()
        assert 0.2 < recall <= 1
        assert 0 <= found.judged["revenue"].values_R.mean() <= 1


def test_shares_of_money_are_means_of_what_requests_contribute() -> None:
    amounts_R, bases_R = np.array([1.0, 0.0, 3.0]), np.array([2.0, 4.0, 4.0])
    found = linear_shares(amounts_R, bases_R)
    assert found.mean() == pytest.approx(4 / 10)
    assert found[0] - 4 / 10 == pytest.approx((1 - 0.4 * 2) / (10 / 3))
    assert linear_shares(np.zeros(2), np.zeros(2)).tolist() == [0, 0]


def test_interrupted_the_command_says_how_to_go_on(
    log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RecFlowArena, "run", interrupt)
    words = ("recflow", "--data", log.path, "--out", tmp_path, *TINY)
    found = benchmark(*words)
    assert found.exit_code == 130
    line = found.stderr.splitlines()[-1]
    assert line.startswith("stopped after 0 of 14 trials; run the same command again to go on: ")
    assert line.endswith("--set embedding_width=2 --set units=8")
    assert "not finished" in (tmp_path / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "loss.tau=2"), "loss.tau cannot be set, the benchmark sets it; choose methods"),
        (("--set", "seed"), "'seed' must be KEY=VALUE"),
        (("--set", "batch_sizes=3"), "batch_sizes is an unknown key; did you mean batch_size?"),
        (("--negatives", "0,many"), "'many' must be a number in [0, 1000]"),
        (("--methods", "best"), "no method 'best'; known are bce, icc"),
        (("--negatives-losses", "best"), "no method 'best'; known are bce, icc"),
    ],
)
def test_wrong_words_end_in_one_line(
    log: PreparedLog, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    found = benchmark("recflow", "--data", log.path, "--out", tmp_path, "--plan", *words)
    assert found.exit_code == 2
    assert says in found.stderr.splitlines()[-1]


def test_a_shop_without_a_period_cannot_be_compared_on(
    shop: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(shop), "requests", lambda *_: np.empty(0, dtype=np.int64))
    with pytest.raises(BenchmarkError, match=r"no requests in the train period; lower test_days"):
        ShopArena(shop, tiny_config(tmp_path, "dftopk"))
