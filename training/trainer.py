"""Trainer: from a prepared dataset to a run folder, the same one however often it is cut off.

Legend: B requests, L history length, K answered items, I items.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from training.answers import answers, availability, plain_arrays, spread
from training.cascade import build_cascade
from training.checkpoint import (
    CURVE,
    Checkpoint,
    Run,
    Validation,
    best_of,
    open_folder,
    read_checkpoint,
    write_checkpoint,
    write_metrics,
)
from training.config import TrainConfig
from training.curve import draw_curve
from training.data.dataset import PreparedDataset, Split
from training.data.requests import as_newcomers, request_tensors
from training.data.sampling import CandidateSampler
from training.determinism import deterministic
from training.durable import write_file
from training.folder import DivergenceError, TrainError
from training.metrics import hits
from training.objective import Objective

WARM_UP_STEPS = 50

Int64 = NDArray[np.int64]


class Progress(NamedTuple):
    """Where a run stands."""

    step: int
    steps: int
    requests: int
    """Requests of the step just made."""
    loss: float
    recall: float | None
    """recall@20 of the last validation, None before the first."""


class TrainResult(NamedTuple):
    """How a run ended."""

    folder: Path
    step: int
    steps: int
    """Steps of the whole schedule; more than `step` where the run was stopped early."""
    best: Validation
    seconds: float


def train(
    dataset: PreparedDataset,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TrainResult:
    """Train a cascade and keep the weights with the best recall@20 on validation.

    Equal dataset, configuration and number of torch threads give equal weights, bit for bit,
    whether the run was cut off and resumed or not.

    Args:
        dataset: what to train on.
        config: what to train.
        out: run folder.
        resume: go on from the last checkpoint in `out`.
        overwrite: remove the run in `out` first.
        progress: called after every step.

    Raises:
        TrainError: `out` holds something else, the data cannot be trained on, or the loss is lost.
    """
    trainer = Trainer(dataset, config)
    open_folder(out, Run.of(config, dataset), resume=resume, overwrite=overwrite)
    trainer.restore(out)
    with deterministic():
        return trainer.run(out, progress)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to 2 %; `step` counts from 0."""
    decay = max(0.02, 1 - step / steps)
    return config.learning_rate * decay * min(1.0, step / WARM_UP_STEPS + 0.05)


class Trainer:
    """A run in memory: everything its next step depends on."""

    def __init__(self, dataset: PreparedDataset, config: TrainConfig) -> None:
        """Start a run.

        Raises:
            TrainError: a period has no requests.
        """
        self.config = config
        self._arrays = plain_arrays(dataset)
        self._available_I = availability(dataset)
        self._requests = dataset.requests(Split.TRAIN)[-config.train_requests :]
        self._validation = spread(dataset.requests(Split.VALIDATION), config.validation_requests)
        for period, found in (("training", self._requests), ("validation", self._validation)):
            if len(found) == 0:
                raise TrainError(
                    f"{dataset.path}: no requests in the {period} period; lower test_days or "
                    "validation_days under [split] and prepare the data again"
                )
        torch.manual_seed(config.seed)
        self.cascade = build_cascade(dataset.meta, self._arrays, config)
        self.objective = Objective(config)
        self._optimizer = torch.optim.Adam(
            [*self.cascade.parameters(), *self.objective.parameters()]
        )
        self._random = np.random.default_rng(config.seed)
        self._sampler = CandidateSampler(
            self._arrays,
            dataset.meta.validation_start_us,
            config.candidates,
            self._random,
            dataset.logged,
        )
        self._epoch_steps = -(-len(self._requests) // config.batch_size)
        self._epoch = -1
        self._shuffled = self._requests
        self.steps = config.epochs * self._epoch_steps
        self.step = 0
        self.validations: tuple[Validation, ...] = ()

    def restore(self, folder: Path) -> None:
        """Take over the state of the last checkpoint, if there is one."""
        checkpoint = read_checkpoint(folder)
        if checkpoint is None:
            return
        self.cascade.load_state_dict(checkpoint.weights)
        self.objective.load_state_dict(checkpoint.objective)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        torch.set_rng_state(checkpoint.torch_random)
        self._random.bit_generator.state = checkpoint.sampler_random
        self.step = checkpoint.step
        self.validations = checkpoint.validations
        write_metrics(folder, self.validations)

    def run(self, folder: Path, progress: Callable[[Progress], None]) -> TrainResult:
        """Train until the schedule or the patience ends."""
        pauses = self._pauses()
        started = time.perf_counter() - (self.validations[-1].seconds if self.validations else 0)
        sums: dict[str, float] = {}
        steps_since = 0
        while self.step < self.steps and not self._stale():
            size, losses = self._advance()
            steps_since += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if self.step in pauses:
                means = {name: value / steps_since for name, value in sums.items()}
                self._validate(folder, means, started)
                sums, steps_since = {}, 0
            recall = self.validations[-1].recall if self.validations else None
            progress(Progress(self.step, self.steps, size, losses["total"], recall))
        best = best_of(self.validations)
        return TrainResult(folder, self.step, self.steps, best, self.validations[-1].seconds)

    def _pauses(self) -> set[int]:
        """Steps after which to validate, the last one always."""
        count = self.config.evaluations
        return {max(1, round(self.steps * i / count)) for i in range(1, count + 1)}

    def _stale(self) -> bool:
        if not self.validations:
            return False
        since_best = len(self.validations) - 1 - self.validations.index(best_of(self.validations))
        return since_best >= self.config.patience

    def _batch(self, step: int) -> Int64:
        """Requests of a step; each epoch has an order of its own, which needs no state."""
        epoch, place = divmod(step, self._epoch_steps)
        if epoch != self._epoch:
            random = np.random.default_rng((self.config.seed, epoch))
            self._epoch, self._shuffled = epoch, random.permutation(self._requests)
        first = place * self.config.batch_size
        return self._shuffled[first : first + self.config.batch_size]

    def _advance(self) -> tuple[int, dict[str, float]]:
        """Make a step: how many requests it saw, and its losses."""
        requests = self._batch(self.step)
        request = request_tensors(self._arrays, requests, self.config.history_length)
        hidden_B = torch.rand(len(requests)) < self.config.newcomer_share
        request = as_newcomers(request, hidden_B)
        catalogue_BI = self.cascade.retrieval.score_items(*request)
        keep = min(self.config.retrieval.keep, catalogue_BI.shape[1])
        recalled_rows_BK = catalogue_BI.detach().topk(keep, dim=1).indices.numpy() + 1
        candidates = self._sampler.draw(requests, request.history_rows_BL.numpy(), recalled_rows_BK)
        rank_BN = self.cascade.rank(*request, candidates.rank.rows_BN)
        loss = self.objective(catalogue_BI, rank_BN, candidates)
        losses = {"total": loss.total.item()} | {k: v.item() for k, v in loss.parts.items()}
        if not np.isfinite(losses["total"]):
            raise DivergenceError(
                f"the loss became {losses['total']} in step {self.step + 1}; lower learning_rate "
                f"= {self.config.learning_rate:g}, or raise loss.tau = {self.config.loss.tau:g}"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.steps)
        self._optimizer.zero_grad()
        loss.total.backward()
        self._optimizer.step()
        self.step += 1
        return len(requests), losses

    def _validate(self, folder: Path, losses: dict[str, float], started: float) -> None:
        self.cascade.eval()
        found = answers(
            self.cascade, self._arrays, self._validation, self.config, self._available_I
        )
        rows_BK = np.concatenate([answer.rows_BK for answer in found])
        self.cascade.train()
        hit = hits(self._arrays, self._validation, rows_BK)
        epochs, place = divmod(self.step, self._epoch_steps)
        seen = epochs * len(self._requests) + place * self.config.batch_size
        line = Validation(
            step=self.step,
            requests=seen,
            seconds=time.perf_counter() - started,
            loss=losses.pop("total"),
            parts=losses,
            recall=hit.recall,
            revenue_share=hit.revenue_share,
        )
        self.validations = (*self.validations, line)
        write_checkpoint(folder, self._checkpoint())
        title = f"{self.config.name}, seed {self.config.seed}"
        write_file(folder / CURVE, draw_curve(title, self.validations))

    def _checkpoint(self) -> Checkpoint:
        sampler: dict[str, Any] = dict(self._random.bit_generator.state)
        return Checkpoint(
            step=self.step,
            weights=self.cascade.state_dict(),
            objective=self.objective.state_dict(),
            optimizer=self._optimizer.state_dict(),
            torch_random=torch.get_rng_state(),
            sampler_random=sampler,
            validations=self.validations,
        )
