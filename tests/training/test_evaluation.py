"""Evaluation: intervals by an independent route, gains, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.shop import tiny_config
from training.checkpoint import BEST, TrainError
from training.data.dataset import PreparedDataset, Split
from training.evaluation import Evaluation, estimate, evaluate
from training.scoreboard import render
from training.trainer import train
from training.yardsticks import PERSONAL_FREQUENCY, POPULARITY, RECENT_FREQUENCY


@pytest.fixture(scope="module")
def evaluation(shop: PreparedDataset, shop_runs: dict[str, Path]) -> Evaluation:
    return evaluate(list(shop_runs.values()), shop)


def test_one_request_a_user_gives_the_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(3, 2, 40)
    found = estimate(values, np.ones(40), np.arange(40))
    half = 1.96 * values.std(ddof=1) / math.sqrt(40)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_repeating_the_requests_of_every_user_tells_nothing_new() -> None:
    values = np.random.default_rng(1).normal(3, 2, 40)
    once = estimate(values, np.ones(40), np.arange(40))
    thrice = estimate(np.repeat(values, 3), np.ones(120), np.repeat(np.arange(40), 3))
    assert thrice.low == pytest.approx(once.low)


def test_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    covered = 0
    for _ in range(400):
        bases = rng.gamma(2.0, 5.0, len(users))
        habit = rng.beta(2, 6, 60)[users]  # mean 1/4, shared by the requests of a user
        found = estimate(bases * habit, bases, users)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.25 <= found.high
    assert 0.90 <= covered / 400 <= 0.98


def test_a_single_user_has_no_interval() -> None:
    found = estimate(np.ones(3), np.full(3, 2.0), np.zeros(3, dtype=np.int64))
    assert (found.value, found.low, found.high) == (0.5, None, None)


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
