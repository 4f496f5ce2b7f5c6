"""Evaluation: runs on RecFlow beside each other, on the requests of the day after their training.

Legend: R requests, S stages, M runs of one configuration.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.intervals import Estimate, estimate
from training.recflow.config import RecFlowConfig
from training.recflow.intervals import Gain, gain, over_seeds
from training.recflow.log import PreparedLog
from training.recflow.measurement import BATCH_SIZE, EvaluationError, Measured, measure
from training.recflow.metrics import Protocol
from training.recflow.run import LogRun, load_run, read_run


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageScore(_Frozen):
    """How one stage does when it chooses among all candidates."""

    name: str
    keep: int
    recall: Estimate
    """Recall@truth@keep"""
    ndcg: Estimate
    """NDCG@10"""


class RunScore(_Frozen):
    """How one run does; intervals over users."""

    run: str
    """Name of its folder."""
    config: str
    seed: int
    requests: int
    """Measured."""
    left_out: int
    """Requests without a relevant candidate, not measured."""
    users: int
    joint_recall: Estimate
    stages: tuple[StageScore, ...]


class ConfigScore(_Frozen):
    """How a configuration does: mean of its runs, which differ by their seed; intervals over seeds.

    One seed has no interval.
    """

    config: str
    """Its name."""
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    """Of the runs."""
    joint_recall: Estimate
    stages: tuple[StageScore, ...]
    gain: Gain | None
    """Joint recall more than the first configuration's, request by request. None for the first
    itself, and where stages, truth or the last keep are others, which makes it another task."""


class LogEvaluation(_Frozen):
    """Runs on the same requests."""

    log: str
    fingerprint: str
    day: str
    protocol: Protocol
    runs: tuple[RunScore, ...]
    configs: tuple[ConfigScore, ...]
    """In the order in which they are first met among the runs."""


class _Result(NamedTuple):
    run: str
    config: RecFlowConfig
    measured: Measured


def _config(run: LogRun) -> RecFlowConfig:
    """A run's configuration with the last day of training written out."""
    return run.config.model_copy(update={"last_train_day": run.last_train_day})


def _method(config: RecFlowConfig) -> RecFlowConfig:
    """What the runs of a configuration have in common."""
    return config.model_copy(update={"seed": 0})


def rolling_days(log: PreparedLog, first: int) -> list[tuple[str, str]]:
    """Pairs of last training day and test day, for training that goes on day by day.

    Args:
        log: whose days.
        first: days that the first pair trains on.

    Returns:
        (`last_train_day`, the day after) for each day from `first` on.

    Raises:
        EvaluationError: no day is left to train on or to test.
    """
    days = log.meta.days
    if not 1 <= first < len(days):
        raise EvaluationError(f"first == {first} must be in [1, {len(days)}) for {len(days)} days")
    return list(zip(days[first - 1 :], days[first:], strict=False))


def evaluate(
    runs: Sequence[Path],
    log: PreparedLog,
    protocol: Protocol,
    *,
    day: str | None = None,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> LogEvaluation:
    """Measure runs on a day that none of them was trained on.

    Args:
        runs: run folders.
        log: the one they were trained on.
        protocol: how is measured, see `training.recflow.metrics`.
        day: ISO date; the day after the runs' last training day if absent.
        limit: most requests, evenly spaced over the day; all if absent.
        batch_size: requests that are scored at once and lend each other negatives.
        advance: told a run's name, how many requests it answered, and of how many.

    Raises:
        EvaluationError: a run is of another log or was trained on the day, two runs are the same
            or have no test day in common, or nothing of the day can be measured.
        LogError: the log has no such day.
        ScoreError: a run's score is not finite.
        TrainError: a folder holds no run, or one without a checkpoint.
    """
    known = _read(runs, log)
    day = _test_day(log, known, day)
    results: list[_Result] = []
    for folder, run in known.items():
        _, cascade = load_run(folder, log)
        name = folder.resolve().name
        measured = measure(
            cascade, log, run.config, day, protocol, limit=limit, batch_size=batch_size,
            advance=partial(advance, name),
        )  # fmt: skip
        results.append(_Result(name, _config(run), measured))
    methods = list(dict.fromkeys(_method(result.config) for result in results))
    groups = [
        [result for result in results if _method(result.config) == method] for method in methods
    ]
    return LogEvaluation(
        log=log.meta.name,
        fingerprint=log.meta.fingerprint,
        day=day,
        protocol=protocol,
        runs=tuple(_run_score(result) for result in results),
        configs=tuple(_config_score(group, groups[0]) for group in groups),
    )


def _read(folders: Sequence[Path], log: PreparedLog) -> dict[Path, LogRun]:
    """What the folders train, each on this log and none like another."""
    if not folders:
        raise EvaluationError("no runs to evaluate; give at least one run folder")
    runs: dict[Path, LogRun] = {}
    for folder in folders:
        run = read_run(folder)
        if run.fingerprint != log.meta.fingerprint:
            raise EvaluationError(
                f"{folder} was trained on {run.log} {run.fingerprint[:12]}, {log.path} is "
                f"{log.meta.name} {log.meta.fingerprint[:12]}; give the log it was trained on"
            )
        for other, known in runs.items():
            if _config(known) == _config(run):
                raise EvaluationError(
                    f"{other} and {folder} have the same configuration and seed, which makes them "
                    "one draw; give one of them"
                )
        runs[folder] = run
    return runs


def _test_day(log: PreparedLog, runs: Mapping[Path, LogRun], asked: str | None) -> str:
    """The day that was asked for, or else the one after all runs' training."""
    days = log.meta.days
    lasts = {run.last_train_day: folder for folder, run in runs.items()}
    last = max(lasts)
    if asked is not None:
        if asked <= last:
            raise EvaluationError(
                f"{lasts[last]} was trained until {last}, so it knows {asked}; test it on a later "
                "day"
            )
        return asked
    if len(lasts) > 1:
        first = min(lasts)
        raise EvaluationError(
            f"{lasts[first]} was trained until {first}, {lasts[last]} until {last}; say which day "
            "to test them on, or evaluate them apart"
        )
    if last == days[-1]:
        raise EvaluationError(
            f"{lasts[last]} was trained until {last}, the last day of {log.path}; no day is left "
            "to test it on"
        )
    return days[days.index(last) + 1]


def _run_score(result: _Result) -> RunScore:
    measured = result.measured
    users_R, ones_R = measured.users_R, np.ones(len(measured.users_R))
    return RunScore(
        run=result.run,
        config=result.config.name,
        seed=result.config.seed,
        requests=len(users_R),
        left_out=measured.left_out,
        users=len(np.unique(users_R)),
        joint_recall=estimate(measured.joint_recall_R, ones_R, users_R),
        stages=_stage_scores(
            result.config,
            [estimate(recall_R, ones_R, users_R) for recall_R in measured.recall_SR],
            [estimate(ndcg_R, ones_R, users_R) for ndcg_R in measured.ndcg_SR],
        ),
    )


def _config_score(group: Sequence[_Result], reference: Sequence[_Result]) -> ConfigScore:
    all_measured = [result.measured for result in group]
    recall_MS = np.array([measured.recall_SR.mean(axis=1) for measured in all_measured])
    ndcg_MS = np.array([measured.ndcg_SR.mean(axis=1) for measured in all_measured])
    return ConfigScore(
        config=group[0].config.name,
        runs=tuple(result.run for result in group),
        seeds=tuple(result.config.seed for result in group),
        joint_recall=over_seeds([measured.joint_recall_R.mean() for measured in all_measured]),
        stages=_stage_scores(
            group[0].config,
            [over_seeds(recall_M) for recall_M in recall_MS.T],
            [over_seeds(ndcg_M) for ndcg_M in ndcg_MS.T],
        ),
        gain=_gain(group, reference),
    )


def _gain(group: Sequence[_Result], reference: Sequence[_Result]) -> Gain | None:
    if group is reference or not _same_task(group, reference):
        return None
    users_R = group[0].measured.users_R
    return gain(_joint_recall(group), _joint_recall(reference), users_R)


def _stage_scores(
    config: RecFlowConfig, recalls: Sequence[Estimate], ndcgs: Sequence[Estimate]
) -> tuple[StageScore, ...]:
    return tuple(
        StageScore(name=stage.name, keep=stage.keep, recall=recall, ndcg=ndcg)
        for stage, recall, ndcg in zip(config.stages, recalls, ndcgs, strict=True)
    )


def _joint_recall(group: Sequence[_Result]) -> NDArray[np.float64]:
    return np.stack([result.measured.joint_recall_R for result in group])


def _same_task(group: Sequence[_Result], reference: Sequence[_Result]) -> bool:
    one, other = (
        (len(config.stages), config.stages[-1].keep, config.truth)
        for config in (group[0].config, reference[0].config)
    )
    return one == other
