"""Conductor: gives the steps of a plan to every generating process and gathers their reports."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import gevent
from gevent.queue import Queue

from loadtest.order import Order, Report
from loadtest.presets import Plan
from loadtest.result import StepResult
from loadtest.step import Step
from loadtest.tally import PhaseTally


class Crew(NamedTuple):
    """The generating processes, seen from the one that conducts."""

    members: Callable[[], list[str]]
    """Their names now."""
    send: Callable[[str, Order], None]
    """Gives one of them an order."""
    inbox: "Queue[Report]"
    """What they report."""
    patience_s: float
    """How long after the end of a step a report may take."""


class Watch(NamedTuple):
    """Who is told how far the test is."""

    began: Callable[[Step], None]
    ended: Callable[[StepResult], None]


def conduct(plan: Plan, crew: Crew, watch: Watch, seed: int) -> Iterable[StepResult]:
    """Carry out a plan, step after step; yields what each step showed.

    Raises:
        LoadError: the plan cannot go on.
    """
    number = 0
    step = next(plan)
    while True:
        watch.began(step)
        result = _carry_out(step, number, crew, seed)
        watch.ended(result)
        yield result
        try:
            step = plan.send(result)
        except StopIteration:
            return
        number += 1


def _carry_out(step: Step, number: int, crew: Crew, seed: int) -> StepResult:
    members = crew.members()
    for worker, name in enumerate(members):
        crew.send(name, Order(number, step, worker, len(members), seed))
    reports: list[Report] = []
    with gevent.Timeout(step.duration_s + crew.patience_s, exception=False):
        while len(reports) < len(members):
            report = crew.inbox.get()
            if report.number == number:
                reports.append(report)
    phases = tuple(PhaseTally() for _ in step.phases)
    for report in reports:
        for mine, theirs in zip(phases, report.phases, strict=True):
            mine.merge(theirs)
    busiest = max((report.cpu_share for report in reports), default=0.0)
    return StepResult(step, phases, busiest, missing=len(members) - len(reports))
