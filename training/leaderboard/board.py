"""Board: what finished trials say about methods, with intervals.

Legend: M runs of a method, R judged requests.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from training.intervals import Estimate
from training.leaderboard.arena import Measure
from training.leaderboard.curve import mean_curve
from training.leaderboard.ledger import Ledger
from training.leaderboard.schedule import (
    Plan,
    best_settings,
    finals,
    negatives_methods,
    with_negatives,
)
from training.leaderboard.sweep import at_edge, sweep
from training.leaderboard.trial import Moment, Result, Trial
from training.recflow.environment import Environment
from training.recflow.intervals import Gain, gain

REFERENCES = ("dftopk", "bce")
"""Methods that every other one is compared with: what is to be beaten, and each stage alone."""
BETTER, WORSE = "better", "worse"
LEVEL = "no difference beyond seeds"
ONE_SEED = "one seed, undecided"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setting(_Frozen):
    """What a sweep chose."""

    learning_rate: float
    learning_rate_at_edge: bool
    """The lowest or highest one tried, so a wider sweep may find a better one."""
    tau: float | None
    """None where the loss has none."""
    tau_at_edge: bool
    validation: float
    """Its score there."""
    trials: int
    failed: int
    """Trials whose training did not last."""


class Row(_Frozen):
    """A method with its best setting."""

    method: str
    setting: Setting
    measures: dict[str, Estimate]
    """Means over seeds; intervals over seeds and users, over users where there is one seed."""
    gains: dict[str, dict[str, Gain]]
    """For each method compared with, by measure; the leader is one of them."""
    seeds: int
    seconds: float
    """Of training, median over seeds."""
    requests_per_s: float
    """Of training, median over seeds."""
    curve: tuple[Moment, ...]
    """Mean over seeds, smoothed."""


class Level(_Frozen):
    """A method trained with one number of sampled negatives."""

    negatives: int
    recall: Estimate
    """The measure that decides; one seed, interval over users."""
    step_ms: float


class Board(_Frozen):
    """A leaderboard."""

    arena: str
    dataset: str
    fingerprint: str
    description: tuple[str, ...]
    command: str
    """Makes it again."""
    measures: tuple[Measure, ...]
    """The first one decides."""
    curve_title: str
    environments: tuple[Environment, ...]
    """In which the finals ran."""
    rows: tuple[Row, ...]
    """Best first."""
    negatives: dict[str, tuple[Level, ...]]
    unranked: dict[str, str]
    """Methods without a row, and why."""

    @property
    def title(self) -> str:
        """What is compared on which data."""
        return ", ".join(dict.fromkeys([self.arena, self.dataset]))

    @property
    def deciding(self) -> Measure:
        """The measure that decides."""
        return self.measures[0]

    @property
    def level_with_leader(self) -> tuple[str, ...]:
        """Methods that the leader is not shown to be better than."""
        if not self.rows:
            return ()
        leader = self.rows[0].method
        return tuple(
            row.method
            for row in self.rows[1:]
            if verdict(row.gains[leader][self.deciding.key]) != WORSE
        )


class _Final(NamedTuple):
    """A method whose finals are done."""

    method: str
    best: Result
    trials: tuple[Trial, ...]
    results: tuple[Result, ...]


def verdict(found: Gain) -> str:
    """A gain in words."""
    low, high = found.estimate.low, found.estimate.high
    if low is None or high is None or not found.over_seeds:
        return ONE_SEED
    if low > 0:
        return BETTER
    return WORSE if high < 0 else LEVEL


def make_board(plan: Plan, ledger: Ledger, command: str) -> Board:
    """What is known so far; methods whose finals are not done have no row."""
    arena = ledger.arena
    found, unranked = _finals(plan, ledger)
    deciding = arena.measures[0].key
    found.sort(key=lambda final: -statistics.fmean(r.scores[deciding] for r in final.results))
    others = [final for final in found if final.method in REFERENCES or final is found[0]]
    chosen = best_settings(plan, ledger)
    negatives = {
        name: _levels(ledger, with_negatives(chosen.get(name), plan.negatives))
        for name in negatives_methods(plan, chosen)
    }
    environments = [result.environment for final in found for result in final.results]
    return Board(
        arena=arena.name,
        dataset=arena.dataset,
        fingerprint=arena.fingerprint,
        description=arena.description,
        command=command,
        measures=arena.measures,
        curve_title=arena.curve_title,
        environments=tuple(dict.fromkeys(environments)),
        rows=tuple(_row(final, others, plan, ledger) for final in found),
        negatives={name: levels for name, levels in negatives.items() if levels},
        unranked=unranked,
    )


def _finals(plan: Plan, ledger: Ledger) -> tuple[list[_Final], dict[str, str]]:
    chosen = best_settings(plan, ledger)
    found, unranked = [], {}
    for method in plan.methods:
        name = method.name
        setting = chosen.get(name)
        trials = [trial for trial in finals(setting, plan.seeds) if trial is not None]
        results = [result for trial in trials if (result := ledger.find(trial)) is not None]
        faults = [result.failed for result in results if result.failed is not None]
        if name in chosen and setting is None:
            unranked[name] = "training failed in every trial of the sweep"
        elif setting is None or len(results) < plan.seeds:
            unranked[name] = "not finished"
        elif faults:
            unranked[name] = f"training failed in {len(faults)} of {plan.seeds} seeds: {faults[0]}"
        else:
            found.append(_Final(name, setting, tuple(trials), tuple(results)))
    return found, unranked


def _row(final: _Final, others: Sequence[_Final], plan: Plan, ledger: Ledger) -> Row:
    keys = [measure.key for measure in ledger.arena.measures]
    (method,) = (method for method in plan.methods if method.name == final.method)
    tried = sweep(method, plan.trials)
    results = [result for trial in tried if (result := ledger.find(trial)) is not None]
    rate_at_edge, tau_at_edge = at_edge(final.best.trial, tried)
    setting = Setting(
        learning_rate=final.best.trial.learning_rate,
        learning_rate_at_edge=rate_at_edge,
        tau=final.best.trial.loss.tau if method.tempered else None,
        tau_at_edge=tau_at_edge,
        validation=final.best.score,
        trials=len(results),
        failed=sum(result.failed is not None for result in results),
    )
    return Row(
        method=final.method,
        setting=setting,
        measures={key: _estimate(ledger, final.trials, key) for key in keys},
        gains={
            other.method: {key: _gain(ledger, final.trials, other.trials, key) for key in keys}
            for other in others
            if other.method != final.method
        },
        seeds=len(final.trials),
        seconds=statistics.median(result.seconds for result in final.results),
        requests_per_s=statistics.median(result.requests_per_s for result in final.results),
        curve=mean_curve([result.curve for result in final.results]),
    )


def _estimate(ledger: Ledger, trials: Sequence[Trial], key: str) -> Estimate:
    values_MR, users_R = ledger.values(trials, key)
    # The gain over a reference that always scores 0.
    return _within(gain(values_MR, np.zeros_like(values_MR), users_R).estimate, 0.0)


def _gain(ledger: Ledger, trials: Sequence[Trial], others: Sequence[Trial], key: str) -> Gain:
    values_MR, users_R = ledger.values(trials, key)
    reference_MR, _ = ledger.values(others, key)
    found = gain(values_MR, reference_MR, users_R)
    return found.model_copy(update={"estimate": _within(found.estimate, -1.0)})


def _within(found: Estimate, least: float) -> Estimate:
    """The part of an interval that is possible; that of two unlike seeds reaches far beyond."""
    if found.low is None or found.high is None:
        return found
    return found.model_copy(update={"low": max(found.low, least), "high": min(found.high, 1.0)})


def _levels(ledger: Ledger, trials: Sequence[Trial | None]) -> tuple[Level, ...]:
    deciding = ledger.arena.measures[0].key
    levels = []
    for trial in trials:
        result = None if trial is None else ledger.find(trial)
        if trial is None or trial.negatives is None or result is None or result.failed is not None:
            continue
        recall = _estimate(ledger, [trial], deciding)
        levels.append(Level(negatives=trial.negatives, recall=recall, step_ms=result.step_ms))
    return tuple(levels)
