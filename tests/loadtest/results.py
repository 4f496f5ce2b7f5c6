"""Results of load tests that never ran: a server with a known capacity, worked out on paper."""

from random import Random

from loadtest.answer import Outcome, Route, Verdict
from loadtest.presets import Plan
from loadtest.result import StepResult
from loadtest.step import Loop, Phase, Step
from loadtest.tally import Call, PhaseTally

PER_PHASE = 200


def carried_out(step: Step, capacity_per_s: float, *, cpu_share: float = 0.1) -> StepResult:
    """What a server shows that sheds what it cannot carry, and is slow from 0.9 of it on."""
    phases = tuple(_phase(step.loop, phase, capacity_per_s) for phase in step.phases)
    return StepResult(step, phases, cpu_share)


def _phase(loop: Loop, phase: Phase, capacity_per_s: float) -> PhaseTally:
    rng, found = Random(0), PhaseTally()
    rate = capacity_per_s if loop is Loop.CLOSED else phase.level(phase.duration_s / 2)
    count = round(rate * phase.duration_s) if loop is Loop.CLOSED else PER_PHASE
    for number in range(count):
        latency_ms = rng.lognormvariate(1.5 if rate < 0.9 * capacity_per_s else 5, 0.3)
        shed = loop is Loop.OPEN and rng.random() > capacity_per_s / max(rate, 1e-9)
        verdict = Verdict(Outcome.SHED if shed else Outcome.OK)
        call = Call(Route.RECOMMEND, verdict, latency_ms, latency_ms)
        found.routes[Route.RECOMMEND].add(call, 100)
        found.windows[int(number / count * phase.duration_s)].add(call, 100)
    return found


def driven(plan: Plan, capacity_per_s: float) -> list[StepResult]:
    """Everything a plan asks of such a server."""
    results: list[StepResult] = []
    step = next(plan)
    while True:
        results.append(carried_out(step, capacity_per_s))
        try:
            step = plan.send(results[-1])
        except StopIteration:
            return results
