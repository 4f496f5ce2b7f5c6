"""Evaluation: trained cascades beside the yardsticks, on the same requests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.answers import NUM, answers, availability, plain_arrays, spread
from training.cascade import Cascade, build_cascade
from training.checkpoint import Run, read_best, read_run
from training.data.dataset import Arrays, PreparedDataset, Split
from training.folder import TrainError
from training.intervals import Estimate, estimate
from training.metrics import Hits, candidate_recall, hits
from training.yardsticks import PERSONAL_FREQUENCY, Yardsticks

Int64 = NDArray[np.int64]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """How one policy does."""

    name: str
    recall: Estimate
    """recall@20"""
    revenue_share: Estimate
    """revenue@20 as a share of all money."""
    revenue_per_request: Estimate
    """Currency units."""
    candidate_recall: float | None
    """Share of the bought items that reached ranking; None where nothing ranks."""
    recall_gain: Estimate | None
    """recall@20 more than personal frequency on the same requests; None for the yardsticks."""
    revenue_share_gain: Estimate | None
    """revenue share more than personal frequency; None for the yardsticks."""


class Evaluation(_Frozen):
    """Policies on the same requests."""

    dataset: str
    split: Split
    requests: int
    users: int
    currency: str
    scores: tuple[Score, ...]


class _Measured(NamedTuple):
    name: str
    hits: Hits
    candidate_recall: float | None


def evaluate(
    runs: Sequence[Path],
    dataset: PreparedDataset,
    split: Split = Split.TEST,
    *,
    limit: int | None = None,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> Evaluation:
    """Measure runs and the yardsticks on the requests of a period.

    Args:
        runs: run folders.
        dataset: the one they were trained on.
        split: the period.
        limit: most requests, evenly spaced over the period; all if absent.
        advance: told a policy's name, how many requests it answered, and of how many.

    Raises:
        TrainError: a folder holds no run, or one that was trained on other data.
    """
    arrays = plain_arrays(dataset)
    requests = dataset.requests(split)
    requests = requests if limit is None else spread(requests, limit)
    if len(requests) == 0:
        raise TrainError(f"{dataset.path}: no requests in the {split} period")
    loaded = [(folder.resolve().name, *load_run(folder, dataset)) for folder in runs]
    measured = _measure_yardsticks(dataset, arrays, requests, advance)
    for name, run, cascade in loaded:
        rows, candidates = [], []
        for answer in answers(cascade, arrays, requests, run.config, availability(dataset)):
            rows.append(answer.rows_BK)
            candidates += answer.candidates
            advance(name, len(candidates), len(requests))
        found = hits(arrays, requests, np.concatenate(rows))
        reached = candidate_recall(arrays, requests, candidates)
        measured.append(_Measured(name, found, reached))
    users = arrays.request_user[requests]
    (reference,) = (m.hits for m in measured if m.name == PERSONAL_FREQUENCY)
    return Evaluation(
        dataset=dataset.meta.name,
        split=split,
        requests=len(requests),
        users=len(np.unique(users)),
        currency=dataset.meta.currency,
        scores=tuple(_score(one, reference, users) for one in measured),
    )


def load_run(folder: Path, dataset: PreparedDataset) -> tuple[Run, Cascade]:
    """A run and its cascade with the best weights, in eval mode.

    Raises:
        TrainError: there is none, or it was trained on other data.
    """
    run = read_run(folder)
    if run.data_fingerprint != dataset.meta.fingerprint:
        raise TrainError(
            f"{folder} was trained on {run.dataset} {run.data_fingerprint[:12]}, {dataset.path} is "
            f"{dataset.meta.name} {dataset.meta.fingerprint[:12]}; give the data it was trained on"
        )
    weights, _ = read_best(folder)
    cascade = build_cascade(dataset.meta, plain_arrays(dataset), run.config)
    cascade.load_state_dict(weights)
    return run, cascade.eval()


def _measure_yardsticks(
    dataset: PreparedDataset,
    arrays: Arrays,
    requests: Int64,
    advance: Callable[[str, int, int], None],
) -> list[_Measured]:
    yardsticks = Yardsticks(arrays, dataset.meta.validation_start_us, availability(dataset))
    answered: dict[str, Int64] = {}
    for place, answer in enumerate(yardsticks.answers(requests)):
        for name, rows_K in answer.items():
            answered.setdefault(name, np.empty((len(requests), NUM), dtype=np.int64))[place] = (
                rows_K
            )
        advance("yardsticks", place + 1, len(requests))
    return [_Measured(name, hits(arrays, requests, rows), None) for name, rows in answered.items()]


def _score(measured: _Measured, reference: Hits, users_B: NDArray[np.integer]) -> Score:
    found = measured.hits
    ones = np.ones(len(users_B))
    money, bought = found.revenue_micros_B / 1e6, found.bought_micros_B / 1e6
    model = measured.candidate_recall is not None
    gain = found.recall_B - reference.recall_B
    money_gain = money - reference.revenue_micros_B / 1e6
    return Score(
        name=measured.name,
        recall=estimate(found.recall_B, ones, users_B),
        revenue_share=estimate(money, bought, users_B),
        revenue_per_request=estimate(money, ones, users_B),
        candidate_recall=measured.candidate_recall,
        recall_gain=estimate(gain, ones, users_B) if model else None,
        revenue_share_gain=estimate(money_gain, bought, users_B) if model else None,
    )
