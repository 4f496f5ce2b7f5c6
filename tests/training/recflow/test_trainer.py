"""Training on a log: what is learned, and that being cut off changes nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.training.recflow.tiny import bits, lines_of, state_of, tiny_config
from training.folder import TrainError
from training.losses.config import LossConfig
from training.losses.judgments import Judgments
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog
from training.recflow.prefetch import ahead
from training.recflow.recall import joint_recall
from training.recflow.run import CHECKPOINT, METRICS
from training.recflow.trainer import LogProgress, train

ROOT = Path(__file__).resolve().parents[3]

SLOWLY = """
import sys, time
from pathlib import Path
import torch
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog
from training.recflow.trainer import train
torch.set_num_threads(1)
config = RecFlowConfig.model_validate_json(sys.argv[1])
log, out = PreparedLog(Path(sys.argv[2])), Path(sys.argv[3])
train(log, config, out, progress=lambda _: time.sleep(0.05), metrics_steps=1)
"""


def assert_same(left: Path, right: Path) -> None:
    """Both runs lost the same at every step, and would go on alike."""
    assert lines_of(left) == lines_of(right)
    assert bits(state_of(left)) == bits(state_of(right))


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    prepared_log: PreparedLog, tmp_path: Path
) -> None:
    config = tiny_config(epochs=2, checkpoint_steps=4)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(prepared_log, config, whole, metrics_steps=1)
    words = [config.model_dump_json(), str(prepared_log.path), str(cut)]
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, *words], cwd=ROOT)
    while not (cut / CHECKPOINT).is_file() or len(lines_of(cut)) < 6:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = state_of(cut)["step"]
    assert killed < len(lines_of(cut)) < 20  # steps were made that no checkpoint holds
    with (cut / METRICS).open("a") as file:
        file.write('{"step": 9')  # and a line was cut off
    seen: list[LogProgress] = []
    train(prepared_log, config, cut, resume=True, metrics_steps=1, progress=seen.append)
    assert seen[0].step == killed + 1
    assert_same(whole, cut)


def test_sums_between_lines_outlive_a_cut(prepared_log: PreparedLog, tmp_path: Path) -> None:
    config = tiny_config(checkpoint_steps=3)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = train(prepared_log, config, whole, metrics_steps=5)

    def cut_off(progress: LogProgress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared_log, config, cut, metrics_steps=5, progress=cut_off)
    again = train(prepared_log, config, cut, metrics_steps=5, resume=True)
    assert [line["step"] for line in lines_of(cut)] == [5, 10]
    assert_same(whole, cut)
    assert again._replace(folder=whole, seconds=result.seconds) == result
    assert train(prepared_log, config, cut, resume=True) == again  # nothing is left to do
    assert_same(whole, cut)


@pytest.mark.parametrize("stages", [2, 3])
def test_a_cascade_learns(prepared_log: PreparedLog, tmp_path: Path, stages: int) -> None:
    keeps = (("dssm", 30), ("din", 20)) if stages == 2 else (("dssm", 40), ("mlp", 30), ("din", 20))
    cascade = [
        {"name": f"s{i}", "model": model, "keep": keep} for i, (model, keep) in enumerate(keeps)
    ]
    config = tiny_config(stages=cascade, epochs=4)
    seen: list[LogProgress] = []
    result = train(prepared_log, config, tmp_path / "run", metrics_steps=10, progress=seen.append)
    lines = lines_of(tmp_path / "run")
    assert [line["requests"] for line in lines] == [600, 1200, 1800, 2400]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["recall"] > lines[0]["recall"]
    assert (result.steps, result.requests, result.loss) == (40, 2400, lines[-1]["loss"])
    assert [p.requests for p in seen[:10]] == [60] * 10
    first, second, _ = prepared_log.meta.days
    assert [p.day for p in seen[:20]] == ([first] * 5 + [second] * 5) * 2
    assert (seen[0].recall, seen[9].recall) == (None, lines[0]["recall"])


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_threads_that_race_change_nothing(prepared_log: PreparedLog, tmp_path: Path) -> None:
    modes: set[bool] = set()

    def watch(_: LogProgress) -> None:
        modes.add(torch.are_deterministic_algorithms_enabled())

    config = tiny_config(batch_size=300, negatives=8)
    for run in ("one", "other"):
        train(prepared_log, config, tmp_path / run, metrics_steps=1, progress=watch)
    assert_same(tmp_path / "one", tmp_path / "other")
    train(prepared_log, config.model_copy(update={"seed": 1}), tmp_path / "third", metrics_steps=1)
    assert lines_of(tmp_path / "third")[0]["loss"] != lines_of(tmp_path / "one")[0]["loss"]
    assert modes == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def refuse(
    message: str, log: PreparedLog, out: Path, config: RecFlowConfig, *, resume: bool = False
) -> None:
    with pytest.raises(TrainError, match=message):
        train(log, config, out, resume=resume)


def test_a_lost_loss_ends_the_run(prepared_log: PreparedLog, tmp_path: Path) -> None:
    refuse(
        r"the loss became (nan|inf) in step \d+, on 20\d\d-\d\d-\d\d; lower learning_rate = 1e\+30"
        r", or raise loss\.tau = 2",
        prepared_log, tmp_path / "run", tiny_config(learning_rate=1e30, loss=LossConfig(tau=2)),
    )  # fmt: skip


def test_runs_that_are_refused(prepared_log: PreparedLog, tmp_path: Path) -> None:
    out, config = tmp_path / "run", tiny_config(last_train_day=prepared_log.meta.days[0])
    train(prepared_log, config, out)
    refuse(r"run is not empty; add --resume", prepared_log, out, config)
    changed = config.model_copy(update={"loss": LossConfig(tau=3)})
    refuse(
        r"run was started with loss\.tau = 1\.0, the configuration says 3\.0; resume with the same",
        prepared_log, out, changed, resume=True,
    )  # fmt: skip
    other = PreparedLog(prepared_log.path)
    other.meta = other.meta.model_copy(update={"fingerprint": "f" * 64})
    refuse(r"was trained on \S+ \w{12}, the data given is \S+ f{12}", other, out, config,
           resume=True)  # fmt: skip
    refuse(r"last_train_day = '1999-01-01' is no day of .*; it has 20\S+ to 20",
           prepared_log, out, tiny_config(last_train_day="1999-01-01"))  # fmt: skip
    other.meta = other.meta.model_copy(update={"days": other.meta.days[:1]})
    refuse(r"has the single day 20\S+ and the last day is left for the test; prepare a second one",
           other, out, tiny_config())  # fmt: skip


def test_days_without_requests_are_refused(prepared_log: PreparedLog, tmp_path: Path) -> None:
    empty = PreparedLog(prepared_log.path)
    empty.meta = empty.meta.model_copy(update={"requests": (0, 0, 300)})
    refuse(r"has no requests until 20\S+; train on more days", empty, tmp_path, tiny_config())


class _Writer:
    """Remembers what TensorBoard would be told."""

    made: list["_Writer"] = []  # noqa: RUF012

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step, self.open = folder, purge_step, True
        self.scalars: list[tuple[str, float, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.open = False


def test_tensorboard_is_told_what_the_lines_say(
    prepared_log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = _Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train(prepared_log, tiny_config(), tmp_path / "run", metrics_steps=10, tensorboard=True)
    (writer,) = _Writer.made
    (line,) = lines_of(tmp_path / "run")
    told = {name: (value, step) for name, value, step in writer.scalars}
    assert told["loss/total"] == (line["loss"], 10)
    assert told["loss/stage_1"] == (line["parts"]["stage_1"], 10)
    assert told["joint_recall"] == (line["recall"], 10)
    assert (writer.folder, writer.purge_step) == (str(tmp_path / "run" / "tensorboard"), 1)
    assert not writer.open


def test_tensorboard_that_is_not_there(
    prepared_log: PreparedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainError, match=r"not installed; install it with `pip install tensorboa"):
        train(prepared_log, tiny_config(), tmp_path / "run", tensorboard=True)
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_joint_recall_by_hand() -> None:
    valid_BN = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    relevant_BN = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    judgments = Judgments(valid_BN.float(), valid_BN.long(), relevant_BN, valid_BN)
    first = torch.tensor([[4.0, 3, 2, 1, 9], [3, 1, 9, 9, 9], [1, 2, 3, 4, 5]])
    second = torch.tensor([[1.0, 3, 2, 9, 9], [2, 1, 9, 9, 9], [1, 2, 3, 4, 5]])
    # The first request keeps 0, 1, 2, then 1, 2: one of two. The second has but 0 and 1: one of
    # one. The third has no truth.
    assert joint_recall([first, second], (3, 2), judgments) == pytest.approx((1 / 2 + 1) / 2)
    nothing = judgments._replace(relevant_BN=torch.zeros_like(relevant_BN))
    assert joint_recall([first, second], (3, 2), nothing) is None


class TestAhead:
    def test_in_order(self) -> None:
        assert list(ahead(str, 3, 6)) == ["3", "4", "5"]
        assert list(ahead(str, 6, 6)) == []

    def test_what_is_raised_arrives_in_its_turn(self) -> None:
        def make(number: int) -> int:
            return 1 // (2 - number)

        made = ahead(make, 1, 9)
        assert next(made) == 1
        with pytest.raises(ZeroDivisionError):
            next(made)
