"""Evaluation: runs, configurations and gains, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.folder import TrainError, write_record
from training.intervals import estimate
from training.recflow.cascade import build_cascade
from training.recflow.config import RecFlowConfig
from training.recflow.evaluation import LogEvaluation, evaluate, rolling_days
from training.recflow.intervals import gain
from training.recflow.log import LogError, PreparedLog
from training.recflow.measurement import EvaluationError, measure
from training.recflow.run import CHECKPOINT, LogRun, load_run
from training.recflow.trainer import train

PLAIN = RecFlowConfig(name="plain", units=4, embedding_width=2, batch_size=100)
OTHER = PLAIN.model_copy(update={"name": "other", "units": 8})
RUNS = {
    "plain-0": PLAIN,
    "other-0": OTHER,
    "plain-1": PLAIN.model_copy(update={"seed": 1}),
    "other-1": OTHER.model_copy(update={"seed": 1}),
    "narrow-0": PLAIN.model_copy(update={"name": "narrow", "truth": 5}),
}


def keep_untrained(log: PreparedLog, config: RecFlowConfig, folder: Path) -> None:
    """A run folder as evaluation reads it, of a cascade with the weights it starts with."""
    run = LogRun.of(config, log)
    folder.mkdir()
    write_record(folder, run)
    torch.manual_seed(config.seed)
    cascade = build_cascade(log, config, run.last_train_day)
    torch.save({"weights": cascade.state_dict()}, folder / CHECKPOINT)


@pytest.fixture(scope="module")
def runs(prepared_log: PreparedLog, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first is trained, the others as they start."""
    folder = tmp_path_factory.mktemp("runs")
    train(prepared_log, PLAIN, folder / "plain-0")
    for name in list(RUNS)[1:]:
        keep_untrained(prepared_log, RUNS[name], folder / name)
    return [folder / name for name in RUNS]


@pytest.fixture(scope="module")
def evaluation(prepared_log: PreparedLog, runs: list[Path]) -> LogEvaluation:
    return evaluate(runs, prepared_log, "strict", batch_size=100)


def test_runs_and_configurations(
    evaluation: LogEvaluation, prepared_log: PreparedLog, runs: list[Path]
) -> None:
    day = prepared_log.meta.days[-1]
    assert (evaluation.day, evaluation.protocol) == (day, "strict")
    assert (evaluation.log, evaluation.fingerprint) == (
        prepared_log.meta.name,
        prepared_log.meta.fingerprint,
    )
    measured = {}
    for folder in runs:
        run, cascade = load_run(folder, prepared_log)
        measured[folder.name] = measure(
            cascade, prepared_log, run.config, day, "strict", batch_size=100
        )
    assert [score.run for score in evaluation.runs] == list(RUNS)
    for score in evaluation.runs:
        found = measured[score.run]
        ones = np.ones(len(found.users_R))
        assert score.joint_recall == estimate(found.joint_recall_R, ones, found.users_R)
        assert [stage.recall.value for stage in score.stages] == pytest.approx(
            found.recall_SR.mean(axis=1)
        )
        assert [stage.ndcg.value for stage in score.stages] == pytest.approx(
            found.ndcg_SR.mean(axis=1)
        )
        assert [(stage.name, stage.keep) for stage in score.stages] == [
            ("retrieval", 30),
            ("prerank", 20),
        ]
        assert (score.requests, score.users) == (len(ones), len(np.unique(found.users_R)))
    plain, other, narrow = evaluation.configs
    assert (plain.config, plain.runs, plain.seeds) == ("plain", ("plain-0", "plain-1"), (0, 1))
    joint = {name: one.joint_recall_R for name, one in measured.items()}
    assert plain.joint_recall.value == pytest.approx(
        (joint["plain-0"].mean() + joint["plain-1"].mean()) / 2
    )
    assert plain.joint_recall.low is not None
    assert (narrow.seeds, narrow.joint_recall.low) == ((0,), None)
    assert (plain.gain, narrow.gain) == (None, None)
    assert other.gain == gain(
        np.stack([joint["other-0"], joint["other-1"]]),
        np.stack([joint["plain-0"], joint["plain-1"]]),
        measured["plain-0"].users_R,
    )
    assert other.gain.over_seeds
    assert LogEvaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_day_limit_protocol_and_progress(prepared_log: PreparedLog, runs: list[Path]) -> None:
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        runs[:1], prepared_log, "paper", day=prepared_log.meta.days[-1], limit=130, batch_size=60,
        advance=lambda *progress: told.append(progress),
    )  # fmt: skip
    assert (found.protocol, found.runs[0].requests) == ("paper", 120)
    assert told == [("plain-0", 60, 120), ("plain-0", 120, 120)]


def test_rolling_days(prepared_log: PreparedLog) -> None:
    one, two, three = prepared_log.meta.days
    assert rolling_days(prepared_log, 1) == [(one, two), (two, three)]
    assert rolling_days(prepared_log, 2) == [(two, three)]
    for first in (0, 3):
        with pytest.raises(EvaluationError, match=rf"first == {first} must be in \[1, 3\) for 3 d"):
            rolling_days(prepared_log, first)


def test_runs_that_are_refused(prepared_log: PreparedLog, runs: list[Path], tmp_path: Path) -> None:
    first, second, third = prepared_log.meta.days
    with pytest.raises(EvaluationError, match="no runs to evaluate; give at least one run folder"):
        evaluate([], prepared_log, "strict")
    with pytest.raises(TrainError, match=r"nowhere holds no run\.json"):
        evaluate([tmp_path / "nowhere"], prepared_log, "strict")
    other = PreparedLog(prepared_log.path)
    other.meta = other.meta.model_copy(update={"name": "other", "fingerprint": "f" * 64})
    with pytest.raises(
        EvaluationError, match=r"plain-0 was trained on .* is other f{12}; give the"
    ):
        evaluate(runs, other, "strict")
    with pytest.raises(EvaluationError, match=r"plain-0 and .*plain-0 have the same configuration"):
        evaluate([runs[0], runs[0]], prepared_log, "strict")
    message = f"plain-0 was trained until {second}, so it knows {second}; test it on a later day"
    with pytest.raises(EvaluationError, match=message):
        evaluate(runs[:1], prepared_log, "strict", day=second)
    with pytest.raises(LogError, match="has no day '2199-01-01'"):
        evaluate(runs[:1], prepared_log, "strict", day="2199-01-01")
    for name, last in (("early", first), ("late", third)):
        config = PLAIN.model_copy(update={"last_train_day": last})
        keep_untrained(prepared_log, config, tmp_path / name)
    message = f"early was trained until {first}, .*plain-0 until {second}; say which day to test"
    with pytest.raises(EvaluationError, match=message):
        evaluate([runs[0], tmp_path / "early"], prepared_log, "strict")
    with pytest.raises(EvaluationError, match=rf"late was trained until {third}, the last day of"):
        evaluate([tmp_path / "late"], prepared_log, "strict")
    (tmp_path / "early" / CHECKPOINT).unlink()
    with pytest.raises(TrainError, match=r"early has no checkpoint\.pt yet"):
        evaluate([tmp_path / "early"], prepared_log, "strict")
