"""Evaluation: gains over the yardsticks, and what is refused."""

from pathlib import Path

import pytest

from tests.shop import tiny_config
from training.checkpoint import BEST
from training.data.dataset import PreparedDataset, Split
from training.evaluation import Evaluation, evaluate
from training.folder import TrainError
from training.scoreboard import render
from training.trainer import train
from training.yardsticks import PERSONAL_FREQUENCY, POPULARITY, RECENT_FREQUENCY


@pytest.fixture(scope="module")
def evaluation(shop: PreparedDataset, shop_runs: dict[str, Path]) -> Evaluation:
    return evaluate(list(shop_runs.values()), shop)


def test_models_stand_beside_the_yardsticks(evaluation: Evaluation, shop: PreparedDataset) -> None:
    scores = {score.name: score for score in evaluation.scores}
    yardsticks = (POPULARITY, PERSONAL_FREQUENCY, RECENT_FREQUENCY)
    assert tuple(scores) == (*yardsticks, "baseline", "dftopk")
    assert evaluation.requests == len(shop.requests(Split.TEST))
    assert evaluation.users == 60
    for name in yardsticks:
        assert scores[name].candidate_recall is None
        assert scores[name].recall_gain is None
    reference = scores[PERSONAL_FREQUENCY]
    for name in ("baseline", "dftopk"):
        score = scores[name]
        assert score.recall_gain is not None
        assert score.revenue_share_gain is not None
        assert score.candidate_recall is not None
        gain = score.recall.value - reference.recall.value
        assert score.recall_gain.value == pytest.approx(gain)
        money_gain = score.revenue_share.value - reference.revenue_share.value
        assert score.revenue_share_gain.value == pytest.approx(money_gain)
        assert score.recall.value <= score.candidate_recall
        assert score.recall.value > scores[POPULARITY].recall.value


def test_revenue_is_that_of_the_receipts(evaluation: Evaluation, shop: PreparedDataset) -> None:
    """Share times everything bought is what is reported a request."""
    arrays = shop.arrays
    requests = shop.requests(Split.TEST)
    bought = sum(
        int(arrays.truth_micros[arrays.truth_starts[r] : arrays.truth_starts[r + 1]].sum())
        for r in requests
    )
    for score in evaluation.scores:
        money = score.revenue_share.value * bought / 1e6
        assert score.revenue_per_request.value * len(requests) == pytest.approx(money)


def test_limit_split_and_progress(shop: PreparedDataset, shop_runs: dict[str, Path]) -> None:
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        [shop_runs["dftopk"]], shop, Split.VALIDATION, limit=70,
        advance=lambda *progress: told.append(progress),
    )  # fmt: skip
    assert (found.requests, found.split) == (70, Split.VALIDATION)
    assert told[69] == ("yardsticks", 70, 70)
    assert told[70:] == [("dftopk", 64, 70), ("dftopk", 70, 70)]


def test_scoreboard(evaluation: Evaluation) -> None:
    text = render(evaluation)
    lines = {line.split("  ")[1]: line for line in text.splitlines() if line.count("±") == 3}
    assert set(lines) == {score.name for score in evaluation.scores}
    score = evaluation.scores[-1]
    assert f"{score.recall.value:.4f} ± " in lines["dftopk"]
    assert f"{score.candidate_recall:.3f}" in lines["dftopk"]
    assert "Gain over personal frequency, request by request" in text
    assert "277 requests of 60 users, test period of village-shop." in text
    assert max(map(len, text.splitlines())) <= 100


def test_scoreboard_without_models_shows_no_gain(shop: PreparedDataset) -> None:
    text = render(evaluate([], shop, limit=1))
    assert "Gain" not in text
    assert "±" not in text.partition("1 requests")[0]


def test_runs_that_are_refused(
    shop: PreparedDataset, shop_runs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(TrainError, match=r"nowhere holds no run\.json; make a run with `cascade"):
        evaluate([tmp_path / "nowhere"], shop)
    other = PreparedDataset(shop.path)
    other.meta = shop.meta.model_copy(update={"name": "other", "fingerprint": "f" * 64})
    with pytest.raises(TrainError, match=r"was trained on village-shop .* is other f{12}; give"):
        evaluate([shop_runs["dftopk"]], other)
    train(shop, tiny_config(tmp_path, "baseline", train_requests=64), tmp_path / "run")
    (tmp_path / "run" / BEST).unlink()
    with pytest.raises(TrainError, match=r"has no best\.pt yet"):
        evaluate([tmp_path / "run"], shop)


def test_a_period_without_requests_is_refused(shop: PreparedDataset) -> None:
    empty = PreparedDataset(shop.path)
    empty.meta = shop.meta.model_copy(update={"test_start_us": 2**62})
    with pytest.raises(TrainError, match=r"prepared: no requests in the test period"):
        evaluate([], empty)
