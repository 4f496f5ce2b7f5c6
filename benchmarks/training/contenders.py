"""Contenders: the same two stages, trained as published and as here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.training.published import PublishedDIN, PublishedDSSM
from training.losses.cascade import cascade_loss
from training.losses.config import LossConfig
from training.optimizer import RowwiseOptimizer
from training.recflow.batches import Batch, BatchStream
from training.recflow.cascade import build_cascade
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog

ENTRY_DEPTHS = (0, 3)
"""Depth of the logged candidates that reach retrieval and pre-ranking."""


class Contender(NamedTuple):
    """Something that trains."""

    name: str
    step: Callable[[Batch], None]
    """Forward, loss, backward, update."""


def vocabularies(log: PreparedLog) -> dict[str, int]:
    """Rows of each table at the end of the log."""
    return {field: rows[-1] for field, rows in log.meta.vocabularies.items()}


def published(sizes: Mapping[str, int]) -> Contender:
    """Textbook modules, dense gradients, dense Adam."""
    stages = nn.ModuleList([PublishedDSSM(sizes), PublishedDIN(sizes)])
    loss = _loss(RecFlowConfig(name="published"))
    optimizer = torch.optim.Adam([*stages.parameters(), *loss.parameters()], lr=1e-2)

    def step(batch: Batch) -> None:
        total = loss([stage(batch) for stage in stages], batch.judgments).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return Contender("published", step)


def ours(log: PreparedLog, config: RecFlowConfig, name: str) -> Contender:
    """What `cascade train` runs."""
    cascade = build_cascade(log, config, log.meta.days[-1])
    loss = _loss(config)
    dense = torch.optim.Adam([*cascade.dense_parameters(), *loss.parameters()], lr=1e-2)
    sparse = RowwiseOptimizer(cascade.embeddings(), config.learning_rate)

    def step(batch: Batch) -> None:
        total = loss(cascade(batch), batch.judgments).total
        dense.zero_grad()
        sparse.zero_grad()
        total.backward()
        dense.step()
        sparse.step()

    return Contender(name, step)


def batches(log: PreparedLog, config: RecFlowConfig) -> BatchStream:
    """The training batches of all days."""
    return BatchStream(log, log.meta.days, config, shuffle=True, negatives=config.negatives)


def open_log(path: Path) -> PreparedLog:
    """A prepared log, made on the spot if there is none at `path`."""
    from training.recflow.generator import generate
    from training.recflow.preparation import prepare

    if not path.exists():
        source = path.with_name(f"{path.name}-source")
        if not source.exists():
            generate(source, requests=20_000, days=2, seed=0)
        prepare(source, path)
    return PreparedLog(path)


def _loss(config: RecFlowConfig) -> nn.Module:
    keeps = [stage.keep for stage in config.stages]
    return cascade_loss(LossConfig(name="dftopk"), keeps, config.truth, ENTRY_DEPTHS)
