"""Data parallelism: real processes end where one process ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.recflow.tiny import lines_of, state_of, tiny_config
from training.folder import TrainError
from training.losses.config import LossConfig
from training.recflow.log import PreparedLog
from training.recflow.parallel import ALONE, Workers, workers
from training.recflow.trainer import train

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog
from training.recflow.parallel import workers
from training.recflow.trainer import train
torch.set_num_threads(1)
log, out = PreparedLog(Path(sys.argv[2])), Path(sys.argv[3])
with workers():
    for word in sys.argv[4:]:
        config = RecFlowConfig.model_validate_json(word)
        train(log, config, out / config.name, metrics_steps=1)
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(prepared_log: PreparedLog, tmp_path: Path) -> None:
    # Each stage of bce counts entries of its own, and lcron has weights of its own. But lcron does
    # not see a shift of all scores: Adam makes whole steps of what rounding leaves of the gradients
    # of the last biases, so that its weights are no two times the same.
    bce = tiny_config(name="bce", negatives=5, loss=LossConfig(name="bce"))
    lcron = tiny_config(name="lcron", loss=LossConfig(name="lcron"), batch_size=150)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = [str(word) for word in (script, ROOT, prepared_log.path, tmp_path / "two")]
    words += [config.model_dump_json() for config in (bce, lcron)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    for config, steps, parts in (
        (bce, 10, ("weights", "moments")),
        (lcron, 4, ("loss",)),
    ):
        one, two = tmp_path / "one" / config.name, tmp_path / "two" / config.name
        train(prepared_log, config, one, metrics_steps=1)
        assert len(lines_of(one)) == steps
        for left, right in zip(lines_of(one), lines_of(two), strict=True):
            for lost in (left, right):
                lost |= lost.pop("parts")
            assert left == pytest.approx(right, abs=1e-4)
        states = [state_of(folder) for folder in (one, two)]
        for state in states:  # Adam hides the scale of a gradient, its moments do not
            state["moments"] = state["optimizer"]["state"]
        for part in parts:
            assert states[0][part].keys() == states[1][part].keys() != set()
            torch.testing.assert_close(states[0][part], states[1][part], atol=1e-5, rtol=0)


def test_one_process_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with workers() as group:
        assert group is ALONE
        assert group.leads
        group.wait()


def test_half_a_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    message = (
        "WORLD_SIZE = 2 is set but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not; start the "
        "processes with torchrun, or unset WORLD_SIZE"
    )
    with pytest.raises(TrainError, match=message), workers():
        pass


def test_more_processes_than_requests_are_refused(prepared_log: PreparedLog) -> None:
    group = Workers(rank=0, size=7)
    with pytest.raises(
        TrainError,
        match=r"7 processes cannot share a batch of 6 requests; start fewer, or raise batch_size",
    ):
        group.check_share(prepared_log, prepared_log.meta.days, batch_size=6)
    group.check_share(prepared_log, prepared_log.meta.days, batch_size=8)
