"""Generator: carries out steps with the connections of one process."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import NamedTuple

import gevent
from gevent.pool import Group
from locust.contrib.fasthttp import FastHttpSession

from loadtest.answer import Route
from loadtest.order import Order, Report
from loadtest.population import Population
from loadtest.step import Loop, Phase, arrivals_s
from loadtest.tally import Call, PhaseTally, window_s
from loadtest.traffic import Traffic
from loadtest.visit import Visitor


class _Stretch(NamedTuple):
    """A phase under way in this process."""

    phase: Phase
    tally: PhaseTally
    begin_s: float
    """On the clock of `time.perf_counter`."""
    order: Order
    visits: Group
    rng: Random


@dataclass(frozen=True)
class Generator:
    """Sends visits.

    The sessions each keep connections of their own, so that visits come over as many connections
    as those of many users would, instead of over the few that were free last.
    """

    sessions: Sequence[FastHttpSession]
    population: Population
    traffic: Traffic
    on_open_call: Callable[[Call], None]
    """Told of every recommendation of an open loop."""

    def run(self, order: Order) -> Report:
        """Carry out this process's share of a step, and wait until every visit has ended."""
        rng = Random(f"{order.seed}/{order.number}/{order.worker}")
        visits, tallies = Group(), []
        spend = self._open if order.step.loop is Loop.OPEN else self._closed
        begin_s, processor_s = time.perf_counter(), time.process_time()
        end_s = begin_s
        for phase in order.step.phases:
            stretch = _Stretch(phase, PhaseTally(), end_s, order, visits, rng)
            tallies.append(stretch.tally)
            spend(stretch)
            end_s += phase.duration_s
            _sleep_until(end_s)
        used_s = time.process_time() - processor_s
        cpu_share = used_s / (time.perf_counter() - begin_s)
        visits.join()
        return Report(order.number, tuple(tallies), cpu_share)

    def _open(self, stretch: _Stretch) -> None:
        share = 1 / stretch.order.workers
        for arrival_s in arrivals_s(stretch.phase, share, stretch.rng):
            _sleep_until(stretch.begin_s + arrival_s)
            stretch.visits.spawn(self._arrive, stretch, arrival_s)

    def _arrive(self, stretch: _Stretch, arrival_s: float) -> None:
        intended_s = stretch.begin_s + arrival_s
        stretch.tally.lateness.add(1000 * (time.perf_counter() - intended_s))

        def record(call: Call) -> None:
            self._count(stretch, arrival_s, call)
            if call.route is Route.RECOMMEND:
                self.on_open_call(call)

        session = stretch.rng.choice(self.sessions)
        visitor = Visitor(session, self.traffic, stretch.rng, record)
        visitor.visit(self.population.draw(stretch.rng), intended_s)

    def _closed(self, stretch: _Stretch) -> None:
        users, order = int(stretch.phase.start), stretch.order
        mine = users // order.workers + (order.worker < users % order.workers)
        for number in range(mine):
            session = self.sessions[number % len(self.sessions)]
            stretch.visits.spawn(self._stay, stretch, session)

    def _stay(self, stretch: _Stretch, session: FastHttpSession) -> None:
        restless = replace(self.traffic, think_s=0.0)
        while True:
            now_s = time.perf_counter()
            elapsed_s = now_s - stretch.begin_s
            if elapsed_s >= stretch.phase.duration_s:
                return
            record = partial(self._count, stretch, elapsed_s)
            visitor = Visitor(session, restless, stretch.rng, record)
            visitor.visit(self.population.draw(stretch.rng), now_s)

    def _count(self, stretch: _Stretch, elapsed_s: float, call: Call) -> None:
        within_ms = self.traffic.within_ms
        stretch.tally.routes[call.route].add(call, within_ms)
        if call.route is Route.RECOMMEND:
            window = int(elapsed_s / window_s(stretch.phase.duration_s))
            stretch.tally.windows[window].add(call, within_ms)


def _sleep_until(moment_s: float) -> None:
    pause_s = moment_s - time.perf_counter()
    if pause_s > 0:
        gevent.sleep(pause_s)
