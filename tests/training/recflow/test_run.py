"""Run folder: what is written is read back."""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.training.recflow.tiny import lines_of, tiny_config
from training.config import read_recflow_config
from training.folder import RUN, TrainError
from training.recflow.batches import BatchStream
from training.recflow.environment import Environment, commit, environment
from training.recflow.log import PreparedLog
from training.recflow.parallel import ALONE
from training.recflow.run import (
    CHECKPOINT,
    CONFIG,
    CURVE,
    ENVIRONMENT,
    METRICS,
    LogRun,
    load_run,
    read_checkpoint,
    read_lines,
    read_run,
)
from training.recflow.trainer import LogTrainer, train


@pytest.fixture(scope="module")
def trained(prepared_log: PreparedLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(prepared_log, tiny_config(), folder, metrics_steps=4)
    return folder


def test_files(trained: Path, prepared_log: PreparedLog) -> None:
    files = {RUN, CONFIG, ENVIRONMENT, CHECKPOINT, METRICS, CURVE}
    assert {file.name for file in trained.iterdir()} == files
    run = read_run(trained)
    assert run == LogRun.of(tiny_config(), prepared_log)
    assert (run.log, run.fingerprint) == (prepared_log.meta.name, prepared_log.meta.fingerprint)
    assert (run.data, run.last_train_day) == (
        prepared_log.path.resolve(),
        prepared_log.meta.days[1],
    )
    assert read_recflow_config(trained / CONFIG) == tiny_config()
    assert (trained / CURVE).read_bytes().startswith(b"\x89PNG")
    assert [line["step"] for line in lines_of(trained)] == [4, 8, 10]
    assert [line.model_dump()["step"] for line in read_lines(trained)] == [4, 8, 10]


def test_environment_says_what_and_not_who(trained: Path) -> None:
    text = (trained / ENVIRONMENT).read_text()
    found = Environment.model_validate_json(text)
    assert found == environment(torch.device("cpu"), 1)
    assert (found.torch, found.threads, found.device) == (torch.__version__, 1, "cpu")
    assert "/" not in text.replace("\\/", "")
    assert str(Path.home()) not in text


def test_sources_outside_of_git_have_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(Path(__file__).parent) is None  # there is no git


def test_a_trained_cascade_scores_as_the_trainer_s(
    trained: Path, prepared_log: PreparedLog
) -> None:
    run, cascade = load_run(trained, prepared_log)
    assert not cascade.training
    trainer = LogTrainer(prepared_log, run, ALONE)
    trainer.restore(trained)
    day = prepared_log.meta.days[2]
    batch = BatchStream(prepared_log, [day], run.config, shuffle=False, negatives=3).batch(0)
    with torch.no_grad():
        found, expected = cascade(batch), trainer.cascade.eval()(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_folders_without_a_cascade(
    prepared_log: PreparedLog, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainError, match=r"holds no run\.json; make a run with `cascade train`"):
        load_run(tmp_path, prepared_log)
    (tmp_path / RUN).write_text((trained / RUN).read_text())
    assert read_checkpoint(tmp_path) is None
    with pytest.raises(TrainError, match=r"has no checkpoint\.pt yet: .* `cascade train --resume`"):
        load_run(tmp_path, prepared_log)
    (tmp_path / CHECKPOINT).write_bytes((trained / CHECKPOINT).read_bytes())
    os.truncate(tmp_path / CHECKPOINT, 1000)
    with pytest.raises(TrainError, match=r"checkpoint\.pt cannot be read \(.*\); it is damaged"):
        load_run(tmp_path, prepared_log)
    other = PreparedLog(prepared_log.path)
    other.meta = other.meta.model_copy(update={"fingerprint": "f" * 64})
    with pytest.raises(
        TrainError, match=r"was trained on .* \w{12}, the log given is .* f{12}; give the log in /"
    ):
        load_run(tmp_path, other)
    raw = json.loads((trained / RUN).read_text())
    raw["config"]["stages"][1]["keeps"] = 3
    (tmp_path / RUN).write_text(json.dumps(raw))
    with pytest.raises(TrainError, match=r"config\.stages\[1\]\.keeps is an unknown key; did you"):
        read_run(tmp_path)
