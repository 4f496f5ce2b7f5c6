"""The loss beside the formulation one would first write, and beside the time a mere copy takes.

Legend: B rows, N candidates.
"""

import statistics
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.hardware import cores
from benchmarks.operators.contenders import TWO_KTHVALUE, joint_losses, losses
from benchmarks.operators.plan import Plan, Shape
from benchmarks.operators.problem import BYTES, Contender, problem
from benchmarks.operators.table import LEFT_OUT, Table, microseconds, quartiles
from benchmarks.operators.timing import (
    Absent,
    Entry,
    Times,
    admit,
    copying,
    ratio,
    spread,
    take_turns,
    threads,
)

FLOOR_BYTES = 12
"""Moved for each candidate: scores read twice (4 + 4), gradient written (4)."""
LEAST_BYTES = 9
"""Of a kernel that reads scores and labels once: 4 + 1, and 4 for the gradient."""
COPY = "copy"


class LossCase(NamedTuple):
    """One shape; times in microseconds."""

    shape: Shape
    times: dict[str, Times | Absent]
    copy: Times
    """Of B N numbers, turn by turn."""
    bandwidth: float
    """Bytes a second, read and written, of a copy of a block that no cache holds."""
    two_threads: dict[str, float]
    """Medians; empty where they were not measured."""

    @property
    def floor_same(self) -> Times:
        """Time to copy `FLOOR_BYTES` a candidate as fast as B N numbers are copied."""
        return [us * FLOOR_BYTES / (2 * BYTES) for us in self.copy]

    @property
    def floor_memory(self) -> float:
        """The same at the bandwidth of a block that no cache holds."""
        return self.moving(FLOOR_BYTES)

    def moving(self, bytes_each: int) -> float:
        """Microseconds to move so many bytes a candidate at that bandwidth."""
        b, n = self.shape
        return bytes_each * b * n / self.bandwidth * 1e6


def measure(plan: Plan, device: str, tick: Callable[[str], None]) -> list[LossCase]:
    """All shapes of the plan."""
    return _cases("loss", plan, plan.losses, losses(device), device, tick)


def measure_joint(plan: Plan, device: str, tick: Callable[[str], None]) -> list[LossCase]:
    """The loss of two stages."""
    return _cases("joint loss", plan, plan.joint, joint_losses(device), device, tick)


def _cases(
    name: str,
    plan: Plan,
    shapes: tuple[Shape, ...],
    contenders: list[Contender],
    device: str,
    tick: Callable[[str], None],
) -> list[LossCase]:
    cases = []
    for shape in shapes:
        tick(f"{name} {shape[0]} x {shape[1]}")
        cases.append(_case(plan, shape, contenders, device))
    return cases


def _case(plan: Plan, shape: Shape, contenders: list[Contender], device: str) -> LossCase:
    b, n = shape
    given, effort = problem(b, n, device), plan.effort
    admitted = {c.name: admit(c, given, effort, device) for c in contenders}
    absent = {name: found for name, found in admitted.items() if isinstance(found, Absent)}
    entries = {name: found for name, found in admitted.items() if isinstance(found, Entry)}
    bandwidth = _copy_bandwidth(plan, device)
    times = take_turns({**entries, COPY: copying(b * n, effort, device)}, effort, device)
    two = {}
    if device == "cpu" and b * n >= plan.threaded and cores() > 1:
        with threads(2):
            turns = take_turns(entries, effort._replace(seconds=effort.seconds / 2), device)
        two = {name: statistics.median(us) for name, us in turns.items()}
    copy = times.pop(COPY)
    return LossCase(shape, {**times, **absent}, copy, bandwidth, two)


def _copy_bandwidth(plan: Plan, device: str) -> float:
    """Bytes a second, read and written, in a block that no cache holds."""
    quick = plan.effort._replace(seconds=0.0, rounds=5)
    entry = copying(plan.copy_bytes // BYTES, quick, device)
    us = statistics.median(take_turns({COPY: entry}, quick, device)[COPY])
    return 2 * plan.copy_bytes / us * 1e6


def joint_table(cases: list[LossCase], device: str) -> Table:
    """A block of rows for each shape, without floors."""
    return Table(
        f"Mean cross-entropy of surviving two stages, forward and backward, on {device}",
        "Median time of a call, its quartiles, and medians of ratios taken turn by turn. "
        f"{TWO_KTHVALUE}: binary cross-entropy of the product of both soft masks.",
        ["contender", "us", "quartiles", f"{TWO_KTHVALUE} / it", "2 threads, us"],
        {
            f"{b} x {n:,}": [[*row[:4], row[6]] for row in _rows(case, device)[:-2]]
            for case in cases
            for b, n in [case.shape]
        },
    )


def table(cases: list[LossCase], device: str) -> Table:
    """A block of rows for each shape."""
    rate = statistics.median(case.bandwidth for case in cases) / 1e9
    note = (
        f"Median time of a call, its quartiles, and medians of ratios taken turn by turn. Floor: "
        f"the time to copy {FLOOR_BYTES} bytes a candidate, measured on a block of the same size, "
        f"which may stay in a cache, and on one that no cache holds ({rate:.1f} GB/s, bytes read "
        "and written)."
    )
    last = "2 threads, us"
    if device != "cpu":
        last = "of copy bandwidth"
        note += (
            f" Of copy bandwidth: {LEAST_BYTES} bytes a candidate, scores and labels read once and "
            "the gradient written, over time and bandwidth."
        )
    return Table(
        f"Mean cross-entropy of DFTopK, forward and backward, on {device}",
        note,
        [
            *("contender", "us", "quartiles", f"{TWO_KTHVALUE} / it"),
            *("it / floor, same size", "it / floor, memory", last),
        ],
        {f"{b} x {n:,}": _rows(case, device) for case in cases for b, n in [case.shape]},
    )


def _rows(case: LossCase, device: str) -> list[list[str]]:
    rows = []
    for name, times in case.times.items():
        if isinstance(times, Absent):
            rows.append([name, LEFT_OUT, times.reason, *[LEFT_OUT] * 4])
        else:
            rows.append([name, microseconds(spread(times).median), quartiles(times)])
            rows[-1] += _ratios(case, times)
            rows[-1].append(_last(case, name, times, device))
    same = case.floor_same
    rows.append(["floor, same size", microseconds(spread(same).median), quartiles(same)])
    rows.append(["floor, memory", microseconds(case.floor_memory), ""])
    return [row + [""] * (7 - len(row)) for row in rows]


def _ratios(case: LossCase, times: Times) -> list[str]:
    first = case.times[TWO_KTHVALUE]
    return [
        LEFT_OUT if isinstance(first, Absent) else f"{ratio(first, times):.2f}",
        f"{ratio(times, case.floor_same):.2f}",
        f"{spread(times).median / case.floor_memory:.2f}",
    ]


def _last(case: LossCase, name: str, times: Times, device: str) -> str:
    if device != "cpu":
        return f"{100 * case.moving(LEAST_BYTES) / spread(times).median:.0f} %"
    two = case.two_threads.get(name)
    return LEFT_OUT if two is None else microseconds(two)
