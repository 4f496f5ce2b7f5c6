"""Times DFTopK, forward and backward, beside a plain formulation and beside selection alone.

Run with `python -m benchmarks.operators`. The contenders take turns, so that a change in the
machine's speed meets all of them; ratios are taken turn by turn.

Legend: B rows, N candidates.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from operators import dftopk

Contender = Callable[[Tensor, int], Tensor]

SHAPES = ((1, 40), (1024, 40), (1024, 160), (64, 1000), (1024, 1000), (64, 10_000))
SECONDS_PER_SHAPE = 3.0
FEWEST_TURNS = 5


def two_kth_values(scores: Tensor, k: int) -> Tensor:
    """DFTopK as one would first write it: two selections, and autograd through both."""
    n = scores.shape[-1]
    upper = scores.kthvalue(n - k + 1, dim=-1, keepdim=True).values
    lower = scores.kthvalue(n - k, dim=-1, keepdim=True).values
    return torch.sigmoid(scores - (upper + lower) / 2)


def selection(scores: Tensor, k: int) -> Tensor:
    """The k largest values: the least that any operator which selects has to do."""
    return scores.topk(k, dim=-1, sorted=False).values


CONTENDERS: dict[str, Contender] = {
    "dftopk": dftopk,
    "two kthvalue": two_kth_values,
    "torch.topk": selection,
}


def turn_us(contender: Contender, scores: Tensor, k: int) -> float:
    """Microseconds of one forward and backward pass."""
    scores.grad = None
    start = time.perf_counter()
    contender(scores, k).sum().backward()
    return (time.perf_counter() - start) * 1e6


def measure(b: int, n: int) -> dict[str, list[float]]:
    """Microseconds of every turn of every contender on [B, N] scores, k = N/4."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(b, n, generator=generator).requires_grad_()
    for contender in CONTENDERS.values():
        turn_us(contender, scores, n // 4)
    turns: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    end = time.perf_counter() + SECONDS_PER_SHAPE
    while time.perf_counter() < end or len(turns["dftopk"]) < FEWEST_TURNS:
        for name, contender in CONTENDERS.items():
            turns[name].append(turn_us(contender, scores, n // 4))
    return turns


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Print the hardware, the versions, the command, and one line a shape."""
    torch.set_num_threads(1)
    write = sys.stdout.write
    write(f"{processor()}, {platform.system()}, 1 thread\n")
    write(f"Python {platform.python_version()}, torch {torch.__version__}, float32, k = N/4\n")
    write("python -m benchmarks.operators\n\n")
    write("median us of a forward and backward pass [quartiles]; ratio of a turn to dftopk's\n")
    for b, n in SHAPES:
        turns = measure(b, n)
        write(f"\n{b} x {n}, {len(turns['dftopk'])} turns\n")
        for name, values in turns.items():
            low, middle, high = quartiles(values)
            ratio = statistics.median(
                theirs / ours for theirs, ours in zip(values, turns["dftopk"], strict=True)
            )
            write(f"  {name:<13}{middle:>10.0f} [{low:.0f}, {high:.0f}]  {ratio:.2f}x\n")


if __name__ == "__main__":
    main()
