"""Schedule: every trial of a leaderboard, in the order in which they run.

Sweeps come first, then the finals of the settings they chose, then the numbers of negatives. A
trial that depends on others has no setting before they are done.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from training.leaderboard.ledger import Ledger
from training.leaderboard.method import Method
from training.leaderboard.sweep import best, sweep
from training.leaderboard.trial import Result, Trial

NEGATIVES = (0, 40, 160, 640)
"""40 is a request's own list again, 160 what DFTopK was judged with (arXiv 2510.11472)."""
NEGATIVES_LOSSES = ("bce", "fs_lambdaloss", "lcron", "dftopk")
"""Alone, a list at a time, by a relaxed sort, by a cut; the best of the others joins them."""
FIRST_SEED = 1
"""Of the finals; the sweep's own seed would favour what it happened to suit."""

Phase = Literal["sweep", "final", "negatives"]


class Plan(NamedTuple):
    """What a leaderboard is made of."""

    methods: tuple[Method, ...]
    trials: int = 6
    """Of each method's sweep."""
    seeds: int = 3
    """Of each method's final."""
    negatives: tuple[int, ...] = ()
    """Numbers of sampled negatives to compare."""
    negatives_losses: tuple[str, ...] = NEGATIVES_LOSSES


class Entry(NamedTuple):
    """A trial and where it stands."""

    phase: Phase
    method: str
    trial: Trial | None
    """None where it depends on trials that are not done."""
    result: Result | None

    @property
    def label(self) -> str:
        """For people."""
        known = f"{self.method}, chosen by the sweep" if self.trial is None else self.trial.label
        return f"{self.phase}: {known}"


Sweeps = dict[str, Result | None]
"""Best result of each method whose sweep is done; None where all of its trials failed."""


def schedule(plan: Plan, ledger: Ledger) -> tuple[Entry, ...]:
    """All trials, the first open one runs next."""
    entries: list[Entry] = []
    sweeps = {method.name: sweep(method, plan.trials) for method in plan.methods}
    for turn in range(plan.trials):  # every method's first before anyone's second
        entries += (_entry("sweep", name, trials[turn], ledger) for name, trials in sweeps.items())
    chosen = best_settings(plan, ledger)
    for method in plan.methods:
        if chosen.get(method.name, ...) is None:
            continue
        entries += (
            _entry("final", method.name, trial, ledger)
            for trial in finals(chosen.get(method.name), plan.seeds)
        )
    for name in negatives_methods(plan, chosen):
        entries += (
            _entry("negatives", name, trial, ledger)
            for trial in with_negatives(chosen.get(name), plan.negatives)
        )
    return tuple(entries)


def best_settings(plan: Plan, ledger: Ledger) -> Sweeps:
    """What each finished sweep found."""
    found: Sweeps = {}
    for method in plan.methods:
        results = [ledger.find(trial) for trial in sweep(method, plan.trials)]
        done = [result for result in results if result is not None]
        if len(done) == len(results):
            found[method.name] = best(done)
    return found


def finals(setting: Result | None, seeds: int) -> tuple[Trial | None, ...]:
    """Trials of a setting that are judged on the test."""
    return tuple(
        None
        if setting is None
        else setting.trial.model_copy(update={"period": "test", "seed": FIRST_SEED + place})
        for place in range(seeds)
    )


def with_negatives(setting: Result | None, levels: Sequence[int]) -> tuple[Trial | None, ...]:
    """The first final of a setting with each number of sampled negatives."""
    (first,) = finals(setting, 1)
    return tuple(
        None if first is None else first.model_copy(update={"negatives": level}) for level in levels
    )


def negatives_methods(plan: Plan, chosen: Sweeps) -> tuple[str, ...]:
    """Of each loss to compare the row that did best on validation, then the best other row.

    Rows stand in for those that are not known before the sweeps are done.
    """
    if not plan.negatives:
        return ()
    groups = [[m.name for m in plan.methods if loss in (m.name, m.loss.name)] for loss in
              plan.negatives_losses]  # fmt: skip
    named = {name for group in groups for name in group}
    groups.append([m.name for m in plan.methods if m.name not in named])

    def key(name: str) -> float:
        found = chosen.get(name)
        return -1.0 if found is None else found.score

    names = (max(group, key=key) for group in groups if group)
    return tuple(name for name in names if chosen.get(name, ...) is not None)


def run(
    plan: Plan,
    ledger: Ledger,
    begin: Callable[[Sequence[Entry], Entry], None] = lambda *_: None,
    advance: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Entry, ...]:
    """Run what is open, one trial after the other.

    Args:
        plan: what to run.
        ledger: where results are, and go to.
        begin: told before each trial the whole schedule, and which entry begins.
        advance: told after every step how many are made, and of how many.

    Returns:
        the finished schedule.
    """
    for entries, entry in _open(plan, ledger):
        assert entry.trial is not None
        begin(entries, entry)
        ledger.run(entry.trial, advance)
    return schedule(plan, ledger)


def seconds_left(entries: Sequence[Entry]) -> float | None:
    """Estimate from the finished trials, those of the same method where there are any.

    Returns:
        None where nothing is finished.
    """
    spent: dict[str, list[float]] = {}
    for entry in entries:
        if entry.result is not None:
            spent.setdefault(entry.method, []).append(entry.result.wall_seconds)
    if not spent:
        return None
    usual = statistics.fmean(seconds for each in spent.values() for seconds in each)
    return sum(
        statistics.fmean(spent.get(entry.method, [usual]))
        for entry in entries
        if entry.result is None
    )


def _open(plan: Plan, ledger: Ledger) -> Iterator[tuple[tuple[Entry, ...], Entry]]:
    while True:
        entries = schedule(plan, ledger)
        ready = [entry for entry in entries if entry.trial is not None and entry.result is None]
        if not ready:
            return
        yield entries, ready[0]


def _entry(phase: Phase, method: str, trial: Trial | None, ledger: Ledger) -> Entry:
    return Entry(phase, method, trial, None if trial is None else ledger.find(trial))
