"""How long contenders take when they take turns.

A turn repeats the call until it lasts about a millisecond, so that neither the clock's resolution
nor what the contender before it left in the caches decides the time of a short one. Contenders take
turns in an order that is drawn anew every round, so a change in the machine's speed meets all of
them, and ratios are taken turn by turn.
"""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch

from benchmarks.operators.problem import Contender, Problem

MOST_SECONDS = 2.0
"""A contender that takes longer for a call is left out."""
MOST_GIGABYTES = 4.0
"""A contender that would hold more is left out."""


class Effort(NamedTuple):
    """How much time goes into one group of contenders."""

    seconds: float
    """For all rounds together."""
    rounds: int
    """At least these many, however long they take."""
    turn_ms: float
    """How long a turn lasts at least."""


class Spread(NamedTuple):
    """Lower quartile, median and upper quartile."""

    low: float
    median: float
    high: float


class Absent(NamedTuple):
    """Why a contender has no time."""

    reason: str


Times = list[float]
"""Microseconds of a call, one a round; the same round for all contenders."""


def spread(values: Times) -> Spread:
    """Quartiles of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratio(of: Times, to: Times) -> float:
    """Median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and the compiled kernels use this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds_of(call: Callable[[], object], repeats: int, device: str) -> float:
    """Seconds of the calls in a row; on a GPU between two events of its own clock."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


class Entry(NamedTuple):
    """Something that is ready to take its turn."""

    call: Callable[[], object]
    repeats: int
    setting: Callable[[], AbstractContextManager[object]] = nullcontext
    """Entered around its turns, outside of the time."""


def admit(contender: Contender, problem: Problem, effort: Effort, device: str) -> Entry | Absent:
    """Prepare and warm up a contender, or say why it is left out."""
    if contender.gigabytes(*problem.shape) > MOST_GIGABYTES:
        return Absent(f"over {MOST_GIGABYTES:.0f} GB")
    turn = contender.prepare(problem)
    with contender.setting():
        # A first call may do things once, such as loading a library: a slow one gets a second.
        if min(seconds_of(turn, 1, device) for _ in range(2)) > MOST_SECONDS:
            return Absent(f"over {MOST_SECONDS:.0f} s")
        return Entry(turn, _repeats(turn, effort, device), contender.setting)


def copying(numbers: int, effort: Effort, device: str) -> Entry:
    """A copy of a block of float32 numbers, each of which is read and written."""
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    seconds_of(lambda: target.copy_(source), 1, device)
    return Entry(
        lambda: target.copy_(source), _repeats(lambda: target.copy_(source), effort, device)
    )


def _repeats(call: Callable[[], object], effort: Effort, device: str) -> int:
    return max(1, math.ceil(effort.turn_ms / 1e3 / seconds_of(call, 1, device)))


def take_turns(entries: Mapping[str, Entry], effort: Effort, device: str) -> dict[str, Times]:
    """Microseconds of a call of every entry, in every round."""
    order, shuffle = list(entries), random.Random(0)
    times: dict[str, Times] = {name: [] for name in entries}
    gc.collect()
    gc.disable()
    try:
        end, rounds = time.perf_counter() + effort.seconds, 0
        while rounds < effort.rounds or time.perf_counter() < end:
            shuffle.shuffle(order)
            for name in order:
                entry = entries[name]
                with entry.setting():
                    seconds = seconds_of(entry.call, entry.repeats, device)
                times[name].append(seconds / entry.repeats * 1e6)
            rounds += 1
    finally:
        gc.enable()
    return times
