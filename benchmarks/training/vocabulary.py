"""What the number of ids costs: time and memory of the updates alone, dense and row by row."""

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.training.contenders import batches
from training.models.sparse_embedding import SparseEmbedding
from training.optimizer import RowwiseOptimizer
from training.recflow.batches import Batch
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog

WIDTH = 8
DENSE_ROWS = 10_000_000
"""Dense Adam is not timed beyond: it would need 128 bytes a row."""
REAL_ROWS = 82_216_301 + 33_474_011
"""Videos and authors of RecFlow."""


class Growth(NamedTuple):
    """A table of `rows` ids."""

    rows: int
    dense_ms: float | None
    """Looking up, gradient and Adam over the whole table."""
    sparse_ms: float
    """The same of the touched rows alone."""
    resident_gigabytes: float
    """By how much the process grew for weights and state of the sparse form."""


def growth(log: PreparedLog, largest: int, rounds: int) -> list[Growth]:
    """Time of a step against the number of rows; what a step touches stays the same."""
    sizes = [rows for rows in (100_000, 1_000_000, 10_000_000) if rows < largest]
    touched = _touched(log)
    return [_measure(rows, touched, rounds) for rows in [*sizes, largest]]


def _touched(log: PreparedLog) -> Tensor:
    """Video rows of a batch: candidates and histories."""
    batch: Batch = batches(log, RecFlowConfig(name="bench")).batch(0)
    return torch.cat([batch.pool_PF[:, 0], batch.history_BLF[:, :, 0].flatten()])


def _measure(rows: int, touched: Tensor, rounds: int) -> Growth:
    spread = 1 + (touched.long() * 2_654_435_761) % (rows - 1)
    sparse_ms, grown = _sparse(rows, spread, rounds)
    return Growth(rows, _dense_ms(rows, spread, rounds), sparse_ms, grown)


def _sparse(rows: int, spread: Tensor, rounds: int) -> tuple[float, float]:
    """Milliseconds of a step, and by how many gigabytes the process grew."""
    before = _resident_gigabytes()
    table = SparseEmbedding([rows], WIDTH, torch.Generator().manual_seed(0))
    optimizer = RowwiseOptimizer([table], 1e-2)
    column = spread.int().unsqueeze(1)

    def step() -> None:
        optimizer.zero_grad()
        table(column).square().sum().backward()
        optimizer.step()

    milliseconds = _milliseconds(step, rounds)
    return milliseconds, _resident_gigabytes() - before


def _dense_ms(rows: int, spread: Tensor, rounds: int) -> float | None:
    if rows > DENSE_ROWS:
        return None
    table = nn.Embedding(rows, WIDTH)
    adam = torch.optim.Adam(table.parameters(), lr=1e-2)

    def step() -> None:
        adam.zero_grad()
        table(spread).square().sum().backward()
        adam.step()

    return _milliseconds(step, rounds)


def _milliseconds(step: Callable[[], None], rounds: int) -> float:
    step()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def _resident_gigabytes() -> float:
    """Size of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9
