"""Trainer: from a prepared log to a run folder, the same one however often it is cut off.

Legend: B requests, N candidates.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from training.determinism import deterministic
from training.folder import DivergenceError
from training.losses.cascade import cascade_loss
from training.optimizer import RowwiseOptimizer
from training.recflow import profile as phases
from training.recflow.batches import Batch, BatchStream
from training.recflow.cascade import build_cascade
from training.recflow.config import RecFlowConfig
from training.recflow.environment import environment
from training.recflow.log import PreparedLog
from training.recflow.parallel import Workers, workers
from training.recflow.prefetch import ahead
from training.recflow.profile import Profile, timed
from training.recflow.recall import joint_recall
from training.recflow.run import (
    TOTAL,
    Checkpoint,
    Line,
    LogRun,
    Tally,
    append_line,
    draw_run,
    open_run,
    read_checkpoint,
    read_lines,
    write_checkpoint,
    write_lines,
)
from training.recflow.scalars import Scalars, summary_writer

METRICS_STEPS = 10
ENTRY_DEPTHS = {2: (0, 3), 3: (0, 2, 4)}
"""For cascades of so many stages: the depth from which a candidate had reached each stage when it
was logged (code of the LCRON paper, arXiv 2503.09492)."""


class LogProgress(NamedTuple):
    """Where a run stands."""

    step: int
    steps: int
    requests: int
    """Of the step just made, in all processes."""
    loss: float
    recall: float | None
    """Joint recall of the last batch in which it was measured, None before."""
    day: str


class LogTrainResult(NamedTuple):
    """How a run ended."""

    folder: Path
    steps: int
    requests: int
    """Seen in all, those of every epoch."""
    loss: float
    """Of the last line of metrics."""
    recall: float | None
    """Joint recall in the last batch."""
    seconds: float
    """Of training, also before it was cut off."""


def train(
    log: PreparedLog,
    config: RecFlowConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[LogProgress], None] = lambda _: None,
    profile: Profile | None = None,
    metrics_steps: int = METRICS_STEPS,
    tensorboard: bool = False,
) -> LogTrainResult:
    """Train a cascade on the days of a log, in order.

    Equal log, configuration and number of torch threads give equal weights, bit for bit, whether
    the run was cut off and resumed or not. Started by torchrun, the processes share every batch;
    the first one writes and reports.

    Args:
        log: what to train on; only the pages of the day at hand are read.
        config: what to train.
        out: run folder.
        resume: go on from the checkpoint in `out`.
        overwrite: remove the run in `out` first.
        progress: called after every step.
        profile: collects where the time goes.
        metrics_steps: a line of metrics every so many steps, at least 1.
        tensorboard: write the metrics for TensorBoard as well.

    Raises:
        TrainError: `out` holds something else, the log cannot be trained on, or the loss is lost.
    """
    run = LogRun.of(config, log)
    if tensorboard:
        summary_writer()
    with workers() as group:
        if group.leads:
            made_with = environment(group.device, group.size)
            open_run(out, run, made_with, resume=resume, overwrite=overwrite)
        group.wait()
        trainer = LogTrainer(log, run, group, profile)
        trainer.restore(out)
        with deterministic(), Scalars(out, trainer.step, on=tensorboard and group.leads) as scalars:
            return trainer.run(out, progress, metrics_steps, scalars)


class LogTrainer:
    """A run in memory: everything its next step depends on."""

    def __init__(
        self, log: PreparedLog, run: LogRun, group: Workers, profile: Profile | None = None
    ) -> None:
        """Start a run.

        Args:
            log: what to train on.
            run: what to train.
            group: the processes that train it.
            profile: collects where the time goes.

        Raises:
            TrainError: there are more processes than requests in a batch.
        """
        config = run.config
        self._config, self._group, self._profile = config, group, profile
        days = run.train_days(log)
        group.check_share(log, days, config.batch_size)
        self._batches = BatchStream(
            log, days, config, shuffle=True, negatives=config.negatives,
            part=group.rank, parts=group.size,
        )  # fmt: skip
        self._keeps = [stage.keep for stage in config.stages]
        torch.manual_seed(config.seed)
        self.cascade = build_cascade(log, config, run.last_train_day).to(group.device)
        entry_depths = ENTRY_DEPTHS[len(config.stages)]
        self._criterion = cascade_loss(config.loss, self._keeps, config.truth, entry_depths)
        self._criterion.to(group.device)
        self._dense = self.cascade.dense_parameters()
        self._optimizer = torch.optim.Adam(
            [*self._dense, *self._criterion.parameters()], lr=config.learning_rate, fused=True
        )
        self._embeddings = self.cascade.embeddings()
        self._embedding_optimizer = RowwiseOptimizer(self._embeddings, lr=config.learning_rate)
        if profile is not None:
            for stage, module in zip(config.stages, self.cascade.stages, strict=True):
                profile.watch(f"{phases.FORWARD} {stage.name}", module)
        self.steps = self._batches.steps
        self.step = 0
        self._requests, self._seconds = 0, 0.0
        self._tally = Tally()
        self._lines: list[Line] = []

    def restore(self, folder: Path) -> None:
        """Take over the state of the last checkpoint, if there is one."""
        checkpoint = read_checkpoint(folder)
        if checkpoint is not None:
            self.cascade.load_state_dict(checkpoint.weights)
            self._criterion.load_state_dict(checkpoint.loss)
            # Copied, so that nothing holds on to the file.
            self._optimizer.load_state_dict(deepcopy(checkpoint.optimizer))
            self._embedding_optimizer.load_state_dict(checkpoint.embedding_optimizer)
            torch.set_rng_state(checkpoint.torch_random.clone())
            self.step, self._requests = checkpoint.step, checkpoint.requests
            self._seconds, self._tally = checkpoint.seconds, checkpoint.tally
        self._lines = [line for line in read_lines(folder) if line.step <= self.step]
        if self._group.leads:
            write_lines(folder, self._lines)

    def run(
        self,
        folder: Path,
        progress: Callable[[LogProgress], None],
        metrics_steps: int,
        scalars: Scalars,
    ) -> LogTrainResult:
        """Train to the end of the last epoch."""
        begun = time.perf_counter() - self._seconds
        with closing(ahead(self._batches.batch, self.step, self.steps)) as batches:
            while self.step < self.steps:
                with timed(self._profile, phases.LOADER):
                    batch = next(batches)
                last = self.step + 1 == self.steps
                measured = last or (self.step + 1) % metrics_steps == 0
                requests, loss, recall = self._advance(batch, measured)
                day = self._batches.day(self.step - 1)
                self._seconds = time.perf_counter() - begun
                if measured:
                    self._note(folder, day, recall, scalars)
                if last or self.step % self._config.checkpoint_steps == 0:
                    self._save(folder)
                if self._group.leads:
                    seen = self._lines[-1].recall if self._lines else None
                    progress(LogProgress(self.step, self.steps, requests, loss, seen, day))
        line = self._lines[-1]
        return LogTrainResult(
            folder, self.steps, self._requests, line.loss, line.recall, self._seconds
        )

    def _advance(self, batch: Batch, measured: bool) -> tuple[int, float, float | None]:
        """Make a step: requests it saw, its loss, and its joint recall if that is wanted."""
        profile = self._profile
        batch = self._group.place(batch)
        with timed(profile, phases.FORWARD):
            scores = self.cascade(batch)
        with self._exchanging():
            scores, judgments = self._group.whole(scores, batch.judgments)
        with timed(profile, phases.LOSS):
            loss = self._criterion(scores, judgments)
            losses = {TOTAL: loss.total.item()} | {n: v.item() for n, v in loss.parts.items()}
        self._check(losses[TOTAL])
        with timed(profile, phases.METRICS):
            recall = joint_recall(scores, self._keeps, judgments) if measured else None
        self._optimizer.zero_grad()
        self._embedding_optimizer.zero_grad()
        with timed(profile, phases.BACKWARD):
            loss.total.backward()
        with self._exchanging():
            self._group.sum_gradients(self._dense)
            self._group.agree(self._criterion.parameters())
            self._group.exchange(self._embeddings)
        with timed(profile, phases.DENSE_OPTIMIZER):
            self._optimizer.step()
        with timed(profile, phases.EMBEDDING_OPTIMIZER):
            self._embedding_optimizer.step()
        requests = len(judgments.grades_BN)
        self.step += 1
        self._requests += requests
        self._tally.add(requests, losses)
        if profile is not None:
            profile.step(requests)
        return requests, losses[TOTAL], recall

    def _exchanging(self) -> AbstractContextManager[None]:
        alone = self._group.size == 1
        return nullcontext() if alone else timed(self._profile, phases.EXCHANGE)

    def _check(self, loss: float) -> None:
        if not np.isfinite(loss):
            config = self._config
            raise DivergenceError(
                f"the loss became {loss} in step {self.step + 1}, on {self._batches.day(self.step)}"
                f"; lower learning_rate = {config.learning_rate:g}, or raise loss.tau = "
                f"{config.loss.tau:g}"
            )

    def _note(self, folder: Path, day: str, recall: float | None, scalars: Scalars) -> None:
        """Write a line of metrics."""
        line = self._tally.line(self.step, self._requests, day, self._seconds, recall)
        self._lines.append(line)
        if self._group.leads:
            append_line(folder, line)
            scalars.write(line)

    def _save(self, folder: Path) -> None:
        if not self._group.leads:
            return
        with timed(self._profile, phases.CHECKPOINT):
            checkpoint = Checkpoint(
                step=self.step,
                requests=self._requests,
                seconds=self._seconds,
                weights=self.cascade.state_dict(),
                loss=self._criterion.state_dict(),
                optimizer=self._optimizer.state_dict(),
                embedding_optimizer=self._embedding_optimizer.state_dict(),
                torch_random=torch.get_rng_state(),
                tally=self._tally,
            )
            write_checkpoint(folder, checkpoint)
            draw_run(folder, f"{self._config.name}, seed {self._config.seed}", self._lines)
