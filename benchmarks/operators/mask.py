"""The operators as soft masks beside their rivals.

Legend: B rows, N candidates.
"""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.operators.contenders import masks
from benchmarks.operators.plan import Plan, Shape
from benchmarks.operators.problem import problem
from benchmarks.operators.table import LEFT_OUT, Table, microseconds, quartiles
from benchmarks.operators.timing import Absent, Entry, Times, admit, ratio, spread, take_turns

YARDSTICK = "dftopk"


class MaskCase(NamedTuple):
    """One shape; times in microseconds."""

    shape: Shape
    times: dict[str, Times | Absent]


def measure(plan: Plan, device: str, tick: Callable[[str], None]) -> list[MaskCase]:
    """All shapes of the plan."""
    cases = []
    for b, n in plan.masks:
        tick(f"masks {b} x {n}")
        given = problem(b, n, device)
        admitted = {c.name: admit(c, given, plan.effort, device) for c in masks()}
        entries = {name: found for name, found in admitted.items() if isinstance(found, Entry)}
        times = take_turns(entries, plan.effort, device)
        found = {name: a if isinstance(a, Absent) else times[name] for name, a in admitted.items()}
        cases.append(MaskCase((b, n), found))
    return cases


def table(cases: list[MaskCase], device: str) -> Table:
    """A block of rows for each shape, the quickest first."""
    return Table(
        f"Soft masks, forward and backward, on {device}",
        "Median time of a call, its quartiles, and the median of the ratios to dftopk's, taken "
        "turn by turn. torch.topk gives values and no mask; hard_topk has no backward pass.",
        ["contender", "us", "quartiles", f"it / {YARDSTICK}"],
        {f"{b} x {n:,}": _rows(case) for case in cases for b, n in [case.shape]},
    )


def _rows(case: MaskCase) -> list[list[str]]:
    here = {name: times for name, times in case.times.items() if not isinstance(times, Absent)}
    yardstick = here.get(YARDSTICK)
    rows = [
        [
            *(name, microseconds(spread(times).median), quartiles(times)),
            LEFT_OUT if yardstick is None else f"{ratio(times, yardstick):.2f}",
        ]
        for name, times in sorted(here.items(), key=lambda item: spread(item[1]).median)
    ]
    absent = {name: found for name, found in case.times.items() if isinstance(found, Absent)}
    return rows + [[name, LEFT_OUT, found.reason, LEFT_OUT] for name, found in absent.items()]
