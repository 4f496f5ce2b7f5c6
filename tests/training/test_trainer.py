"""Training: the run folder, and that being cut off changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.shop import tiny_config
from training.checkpoint import (
    BEST,
    CURVE,
    LAST,
    METRICS,
    Validation,
    read_best,
    read_checkpoint,
)
from training.config import TrainConfig
from training.data.dataset import PreparedDataset
from training.data.requests import request_tensors
from training.data.sampling import Candidates
from training.features import OOV
from training.folder import RUN, TrainError
from training.trainer import Progress, Trainer, learning_rate, train

QUICK: dict[str, object] = {"train_requests": 128, "epochs": 1, "validation_requests": 20}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def assert_same_state(left: Path, right: Path) -> None:
    """Both runs would go on alike, bit for bit, and kept the same weights."""
    for name in (LAST, BEST):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (left, right))
        for state in (one, other):
            for line in state.get("validations", [state]):
                line.pop("seconds")
        assert bits(one) == bits(other)


def bits(state: Any) -> Any:  # noqa: ANN401
    """Nested state with every tensor as its type, shape and bytes."""
    if isinstance(state, dict):
        return {key: bits(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [bits(value) for value in state]
    if isinstance(state, torch.Tensor):
        return str(state.dtype), tuple(state.shape), state.numpy().tobytes()
    return state


def test_run_folder(shop: PreparedDataset, shop_runs: dict[str, Path]) -> None:
    folder = shop_runs["dftopk"]
    assert {file.name for file in folder.iterdir()} == {RUN, LAST, BEST, METRICS, CURVE}
    lines = lines_of(folder)
    assert [line["step"] for line in lines] == [29, 58]
    assert [line["requests"] for line in lines] == [1818, 2 * 1818]
    assert lines[1]["loss"] < lines[0]["loss"]
    assert lines[1]["recall"] > 0.35
    assert list(lines[0]["parts"]) == ["retrieval", "rank", "joint"]
    assert lines[0]["seconds"] < lines[1]["seconds"]
    assert (folder / CURVE).read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / RUN).read_text())["data_fingerprint"] == shop.meta.fingerprint
    _, best = read_best(folder)
    assert best.recall == max(line["recall"] for line in lines)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_threads_that_race_change_nothing(shop: PreparedDataset, tmp_path: Path) -> None:
    wide: dict[str, object] = {**QUICK, "batch_size": 128, "train_requests": 512}
    config = tiny_config(tmp_path, "dftopk", **wide)
    modes: set[bool] = set()

    def watch(_: Progress) -> None:
        modes.add(torch.are_deterministic_algorithms_enabled())

    for run in ("one", "other"):
        train(shop, config, tmp_path / run, progress=watch)
    assert_same_state(tmp_path / "one", tmp_path / "other")
    assert modes == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_equal_seeds_give_equal_weights(shop: PreparedDataset, tmp_path: Path) -> None:
    seen: list[Progress] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = tiny_config(tmp_path, "dftopk", seed=seed, **QUICK)
        train(shop, config, tmp_path / name, progress=seen.append)
    assert_same_state(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_state(tmp_path / "a", tmp_path / "c")
    assert [(p.step, p.steps, p.requests) for p in seen[:2]] == [(1, 2, 64), (2, 2, 64)]
    assert seen[0].recall is not None  # two validations in two steps
    assert seen[0].loss == seen[2].loss != seen[4].loss


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(shop: PreparedDataset, tmp_path: Path) -> None:
    settings = {"evaluations": 6, "epochs": 3, "patience": 9}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(shop, tiny_config(tmp_path, "dftopk", **settings), whole)
    words = ["train", str(tmp_path / "dftopk.toml"), "--data", str(shop.path), "--out", str(cut)]
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "cli", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (cut / METRICS).is_file():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)  # into the next interval
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = read_checkpoint(cut)
    assert killed is not None
    assert killed.step < 87
    resumed = subprocess.run(
        [*command, "--resume"], env=environment, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "87 of 87 steps" in resumed.stdout
    assert_same_state(whole, cut)
    one, other = lines_of(whole), lines_of(cut)
    assert [line["step"] for line in other] == [14, 29, 44, 58, 72, 87]
    for line in (*one, *other):
        line.pop("seconds")
    assert one == other


def test_a_run_cut_off_before_its_first_checkpoint_starts_anew(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, "baseline", **(QUICK | {"evaluations": 1}))
    train(shop, config, tmp_path / "whole")

    def cut_off(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shop, config, tmp_path / "cut", progress=cut_off)
    assert read_checkpoint(tmp_path / "cut") is None
    train(shop, config, tmp_path / "cut", resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "cut")


def test_resuming_a_finished_run_changes_nothing(shop: PreparedDataset, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "baseline", **QUICK)
    first = train(shop, config, tmp_path / "run")
    before = lines_of(tmp_path / "run")
    again = train(shop, config, tmp_path / "run", resume=True)
    assert again == first
    assert lines_of(tmp_path / "run") == before


def test_patience_ends_a_run_that_gets_no_better(shop: PreparedDataset, tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path, "baseline", evaluations=10, patience=2, learning_rate=1e-12,
        validation_requests=20,
    )  # fmt: skip
    result = train(shop, config, tmp_path / "run")
    assert [line["step"] for line in lines_of(tmp_path / "run")] == [6, 12, 17]
    assert (result.step, result.steps, result.best.step) == (17, 58, 6)


def test_best_weights_are_those_of_the_best_validation(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    config = tiny_config(
        tmp_path, "dftopk", evaluations=4, patience=9, learning_rate=1.0, validation_requests=60
    )
    result = train(shop, config, tmp_path / "run")
    lines = lines_of(tmp_path / "run")
    best = max(lines, key=lambda line: line["recall"])
    assert result.best == Validation(**best)
    assert read_best(tmp_path / "run")[1] == result.best


def test_learning_rate_warms_up_then_decays(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "baseline", learning_rate=1.0)
    assert learning_rate(config, 0, 1000) == pytest.approx(0.05)
    assert learning_rate(config, 25, 1000) == pytest.approx((1 - 25 / 1000) * (25 / 50 + 0.05))
    assert learning_rate(config, 500, 1000) == pytest.approx(0.5)
    assert learning_rate(config, 999, 1000) == pytest.approx(0.02)


def test_every_epoch_sees_every_request_once_in_another_order(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    trainer = Trainer(shop, tiny_config(tmp_path, "baseline", train_requests=200))
    assert trainer.steps == 2 * 4  # 200 requests in batches of 64, two epochs
    first, second = (
        np.concatenate([trainer._batch(epoch * 4 + place) for place in range(4)])
        for epoch in (0, 1)
    )
    newest = np.sort(shop.requests("train")[-200:])  # type: ignore[arg-type]
    assert np.array_equal(np.sort(first), newest)
    assert np.array_equal(np.sort(second), newest)
    assert not np.array_equal(first, second)


class TestStep:
    """What a step asks of the sampler: requests, their histories, what is recalled for them."""

    @pytest.fixture
    def asked(self) -> list[tuple[NDArray[np.int64], ...]]:
        return []

    def _trainer(
        self,
        config: TrainConfig,
        shop: PreparedDataset,
        asked: list[tuple[NDArray[np.int64], ...]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> Trainer:
        trainer = Trainer(shop, config)
        draw = trainer._sampler.draw

        def remember(*arguments: NDArray[np.int64]) -> Candidates:
            asked.append(arguments)
            return draw(*arguments)

        monkeypatch.setattr(trainer._sampler, "draw", remember)
        return trainer

    def test_hands_over_the_top_of_the_whole_catalogue(
        self,
        shop: PreparedDataset,
        tmp_path: Path,
        asked: list[tuple[NDArray[np.int64], ...]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        config = tiny_config(tmp_path, "dftopk", newcomer_share=0.0)
        trainer = self._trainer(config, shop, asked, monkeypatch)
        retrieval = trainer.cascade.eval().retrieval  # so that no value is dropped at random
        request = request_tensors(shop.arrays, trainer._batch(0), config.history_length)
        everything = torch.arange(1, len(shop.items)).expand(config.batch_size, -1)
        scores = retrieval(*request, everything)
        size, losses = trainer._advance()
        ((requests, histories, recalled),) = asked
        assert size == config.batch_size
        assert requests.tolist() == trainer._batch(0).tolist()
        assert histories.tolist() == request.history_rows_BL.tolist()
        assert recalled.shape == (config.batch_size, config.retrieval.keep)
        found = scores.gather(1, torch.from_numpy(recalled - 1))
        torch.testing.assert_close(found, scores.topk(config.retrieval.keep).values)
        assert list(losses) == ["total", "retrieval", "rank", "joint"]

    def test_hides_the_past_of_a_share_of_the_users(
        self,
        shop: PreparedDataset,
        tmp_path: Path,
        asked: list[tuple[NDArray[np.int64], ...]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        config = tiny_config(tmp_path, "baseline", newcomer_share=0.25)
        trainer = self._trainer(config, shop, asked, monkeypatch)
        for _ in range(20):
            trainer._advance()
        empty, had = 0, 0
        for requests, histories, _ in asked:
            known = shop.arrays.history_end[requests] > shop.arrays.history_start[requests]
            had += int(known.sum())
            empty += int((known & (histories == OOV).all(axis=1)).sum())
        assert abs(empty / had - 0.25) < 4 * (0.25 * 0.75 / had) ** 0.5


@pytest.mark.parametrize("name", ["baseline", "dftopk"])
def test_retrieval_may_keep_more_than_there_is(
    shop: PreparedDataset, tmp_path: Path, name: str
) -> None:
    config = tiny_config(tmp_path, name, **QUICK, retrieval={"width": 8, "keep": 1000})
    assert train(shop, config, tmp_path / "run").best.recall > 0


def test_a_published_loss_trains_both_stages_on_one_list(
    shop: PreparedDataset, tmp_path: Path
) -> None:
    config = tiny_config(
        tmp_path, "lcron", **(QUICK | {"evaluations": 1}), candidates={"shared": True}
    )
    result = train(shop, config, tmp_path / "run")
    assert result.best.recall > 0
    (line,) = lines_of(tmp_path / "run")
    assert list(line["parts"]) == ["stage_0", "stage_1", "joint"]
    checkpoint = read_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    # What the loss learns is trained and kept with the cascade.
    (log_variance,) = checkpoint.objective.values()
    assert log_variance.abs().min() > 0


def refuse(
    message: str, dataset: PreparedDataset, folder: Path, out: Path, **options: object
) -> None:
    overrides = {name: options.pop(name) for name in list(options) if name not in FLAGS}
    flags: dict[str, Any] = options
    with pytest.raises(TrainError, match=message):
        train(dataset, tiny_config(folder, "baseline", **(QUICK | overrides)), out, **flags)


FLAGS = ("resume", "overwrite")


def test_folders_that_are_refused(shop: PreparedDataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    refuse(r"run holds no run\.json; make a run with `cascade train`", shop, tmp_path, out,
           resume=True)  # fmt: skip
    train(shop, tiny_config(tmp_path, "baseline", **QUICK), out)
    refuse(r"run is not empty; add --resume .* or --overwrite to start", shop, tmp_path, out)
    refuse(
        r"run was started with batch_size = 64, the configuration says 32; resume with the same",
        shop, tmp_path, out, resume=True, batch_size=32,
    )  # fmt: skip
    (out / RUN).unlink()
    refuse(r"run holds files but no run, so it is kept; choose another --out", shop, tmp_path, out,
           overwrite=True)  # fmt: skip
    assert (out / LAST).is_file()


def test_overwrite_starts_anew(shop: PreparedDataset, tmp_path: Path) -> None:
    train(shop, tiny_config(tmp_path, "baseline", **QUICK), tmp_path / "run")
    (tmp_path / "run" / "old.txt").touch()
    config = tiny_config(tmp_path, "baseline", **(QUICK | {"evaluations": 1}))
    train(shop, config, tmp_path / "run", overwrite=True)
    assert len(lines_of(tmp_path / "run")) == 1
    assert not (tmp_path / "run" / "old.txt").exists()


def test_other_data_is_refused(shop: PreparedDataset, tmp_path: Path) -> None:
    train(shop, tiny_config(tmp_path, "baseline", **QUICK), tmp_path / "run")
    other = PreparedDataset(shop.path)
    other.meta = shop.meta.model_copy(update={"fingerprint": "f" * 64})
    refuse(
        r"was trained on village-shop \w{12}, the data given is village-shop f{12}; resume with",
        other, tmp_path, tmp_path / "run", resume=True,
    )  # fmt: skip


def test_a_period_without_requests_is_refused(shop: PreparedDataset, tmp_path: Path) -> None:
    empty = PreparedDataset(shop.path)
    empty.meta = shop.meta.model_copy(update={"validation_start_us": shop.meta.test_start_us})
    refuse(
        r"no requests in the validation period; lower test_days or validation_days under \[split\]",
        empty, tmp_path, tmp_path / "run",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_lost_loss_ends_the_run(shop: PreparedDataset, tmp_path: Path) -> None:
    refuse(
        r"the loss became nan in step \d; lower learning_rate = 1e\+30, or raise loss\.tau = 1",
        shop, tmp_path, tmp_path / "run", learning_rate=1e30, train_requests=640, evaluations=1,
    )  # fmt: skip


def test_damaged_files_are_named(shop: PreparedDataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(shop, tiny_config(tmp_path, "baseline", **QUICK), out)
    os.truncate(out / LAST, (out / LAST).stat().st_size // 2)
    refuse(r"last\.pt cannot be read \(.*\); it is damaged, train again with --overwrite", shop,
           tmp_path, out, resume=True)  # fmt: skip
    (out / BEST).unlink()
    with pytest.raises(TrainError, match=r"has no best\.pt yet: .* go on with `cascade train --re"):
        read_best(out)
    (out / RUN).write_text("{}")
    refuse(r"run\.json: config is missing; .*; train again with --overwrite", shop, tmp_path, out,
           resume=True)  # fmt: skip
