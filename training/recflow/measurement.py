"""Measurement: a cascade's answers to the requests of one day, batch by batch.

The candidates of a day depend on the protocol, the day and the batch size alone, never on the run,
so that runs can be compared request by request.

Legend: B requests of a batch, R requests of a day, N candidates, S stages, E slots of a request.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.losses.judgments import Judgments
from training.recflow.batches import BEST_GRADE, Batch, BatchStream, slots
from training.recflow.config import RecFlowConfig
from training.recflow.log import REQUEST_FIELDS, Day, PreparedLog
from training.recflow.metrics import (
    GroundTruth,
    Measures,
    Protocol,
    measures,
    paper_truth,
    published_negatives,
    strict_truth,
)

BATCH_SIZE = 1024
"""Published; which requests a negative can come from depends on it."""
NEGATIVES = {2: 160, 3: 0}
"""Published, by the number of stages."""
SEED = 42
"""Published, for the candidates of the test."""

_USER = REQUEST_FIELDS.index("user_id")

Float64 = NDArray[np.float64]


class EvaluationError(ValueError):
    """Runs or a day that cannot be evaluated; the message names them, rule and remedy."""


class Measured(NamedTuple):
    """How R requests of a day were answered; all measures in [0, 1]."""

    request_ids_R: NDArray[np.int64]
    users_R: NDArray[np.int32]
    joint_recall_R: Float64
    recall_SR: Float64
    """Of each stage alone."""
    ndcg_SR: Float64
    left_out: int
    """Requests without a relevant candidate; they are not among the R."""


def measure(
    cascade: Callable[[Batch], Sequence[Tensor]],
    log: PreparedLog,
    config: RecFlowConfig,
    day: str,
    protocol: Protocol,
    *,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> Measured:
    """Measure a cascade on a day.

    Args:
        cascade: gives scores [B, N] of each stage, the first stage first. In eval mode.
        log: where the day is.
        config: stages and truth of the run; its batch size, seed and negatives do not matter.
        day: ISO date.
        protocol: `paper` leaves out the requests at the end that do not fill a batch.
        limit: most requests, evenly spaced over the day; all if absent.
        batch_size: requests that are scored at once and lend each other negatives.
        advance: told how many requests are answered, and of how many.

    Raises:
        EvaluationError: nothing of the day can be measured.
        LogError: the log has no such day.
        ScoreError: a score is not finite.
        ValueError: a batch has too few candidates to give every request its negatives.
    """
    sample = _sample(log, day, protocol, limit, batch_size)
    requests = len(sample.day(day).request_ids)
    keeps = [stage.keep for stage in config.stages]
    ids, users, found, done = [], [], list[Measures](), 0
    with torch.inference_mode():
        for batch, truth in _batches(sample, config, day, protocol, batch_size):
            found.append(measures(cascade(batch), keeps, truth))
            ids.append(batch.request_ids_B.numpy())
            users.append(batch.fields_BF[:, _USER].numpy())
            done += len(batch.request_ids_B)
            advance(done, requests)
    joint_R = np.concatenate([one.joint_recall_B for one in found])
    counted_R = ~np.isnan(joint_R)
    if not counted_R.any():
        raise EvaluationError(
            f"no request of {day} in {log.path} has a candidate; choose another day"
        )
    return Measured(
        np.concatenate(ids)[counted_R],
        np.concatenate(users)[counted_R],
        joint_R[counted_R],
        np.concatenate([one.recall_SB for one in found], axis=1)[:, counted_R],
        np.concatenate([one.ndcg_SB for one in found], axis=1)[:, counted_R],
        left_out=int((~counted_R).sum()),
    )


class _Sample(PreparedLog):
    """A log with some requests of one day alone."""

    def __init__(self, log: PreparedLog, day: str, rows: slice | NDArray[np.int64]) -> None:
        self.path, self.meta, self.items_IF = log.path, log.meta, log.items_IF
        self._name, self._day = day, Day._make(column[rows] for column in log.day(day))

    def day(self, name: str) -> Day:
        assert name == self._name
        return self._day


def _sample(
    log: PreparedLog, day: str, protocol: Protocol, limit: int | None, batch_size: int
) -> _Sample:
    requests = len(log.day(day).request_ids)
    count = requests if limit is None else min(limit, requests)
    if count < 1:
        raise EvaluationError(f"{count} requests of {day} are to be measured; give at least 1")
    if protocol == "paper" and count < batch_size:
        raise EvaluationError(
            f"{count} requests of {day} are to be measured, fewer than a batch of {batch_size}, "
            "and the paper protocol leaves out what does not fill a batch; measure more, or by the "
            "strict protocol"
        )
    rows = slice(None) if count == requests else np.arange(count) * requests // count
    if protocol == "paper":
        whole = count // batch_size * batch_size
        rows = slice(whole) if isinstance(rows, slice) else rows[:whole]
    return _Sample(log, day, rows)


def _batches(
    sample: _Sample, config: RecFlowConfig, day: str, protocol: Protocol, batch_size: int
) -> Iterator[tuple[Batch, GroundTruth]]:
    stages = len(config.stages)
    negatives = NEGATIVES[stages]
    same = config.model_copy(update={"batch_size": batch_size, "seed": SEED})
    drawn = negatives if protocol == "strict" else 0
    stream = BatchStream(sample, [day], same, shuffle=False, negatives=drawn)
    empty_labels_E = _empty_labels(stages)
    for step in range(stream.steps):
        batch = stream.batch(step)
        if protocol == "strict":
            yield batch, strict_truth(batch.judgments)
            continue
        random = np.random.default_rng((SEED, step))
        batch = _with_published_negatives(batch, negatives, random)
        order_N = random.permutation(batch.picks_BN.shape[1])
        yield (
            batch,
            paper_truth(batch.judgments, empty_labels_E, config.truth, stages, order_N),
        )


def _empty_labels(stages: int) -> NDArray[np.float32]:
    """Published label of an empty slot: that of the first place in the winners' list."""
    lost_E = slots(stages).grades_S
    return np.where(lost_E > 0, lost_E, np.float32(BEST_GRADE))


def _with_published_negatives(batch: Batch, count: int, random: np.random.Generator) -> Batch:
    B, E = batch.picks_BN.shape
    drawn_BN = torch.from_numpy(published_negatives(B, E, count, random))
    known = batch.judgments
    columns = (
        (known.grades_BN, 0),
        (known.depth_BN, 0),
        (known.relevant_BN, 0),
        (known.valid_BN, 1),
    )
    return batch._replace(
        picks_BN=torch.cat([batch.picks_BN, drawn_BN], dim=1),
        judgments=Judgments(
            *(torch.cat([own, own.new_full((B, count), fill)], dim=1) for own, fill in columns)
        ),
    )
