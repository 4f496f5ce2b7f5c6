"""The benchmark of operators: what it times is what it says, and what it writes is whole."""

import contextlib
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import hardware
from benchmarks.operators import contenders, growth, loss, mask, timing
from benchmarks.operators.__main__ import main
from benchmarks.operators.plan import QUICK
from benchmarks.operators.problem import Contender, Problem, Turn, problem
from benchmarks.operators.timing import Absent, Effort, Entry
from operators import OPERATORS
from operators.kernels import cpu
from training.recflow.environment import processor

EFFORT = Effort(seconds=0.0, rounds=3, turn_ms=0.0)


def run(contender: Contender, given: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient of a turn."""
    with contender.setting():
        value = contender.prepare(given)().detach()
    assert given.scores.grad is not None
    return value, given.scores.grad


@pytest.mark.parametrize("shape", [(1, 40), (7, 33), (3, 200)])
@pytest.mark.parametrize("family", [contenders.losses, contenders.joint_losses])
def test_every_loss_is_the_same_loss(
    shape: tuple[int, int], family: Callable[[], list[Contender]]
) -> None:
    given = problem(*shape)
    first, *others = family()
    value, gradient = run(first, given)
    for contender in others:
        found, slope = run(contender, given)
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(slope, gradient, rtol=1e-4, atol=1e-5 * float(gradient.max()))


def test_rivals_compute_what_the_operators_they_are_held_to_do() -> None:
    given = problem(5, 36)
    by_name = {contender.name: contender for contender in contenders.masks()}
    assert set(by_name) > set(contenders.SAME)
    for rival, operator in contenders.SAME.items():
        value, gradient = run(by_name[operator], given)
        found, slope = run(by_name[rival], given)
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5, msg=rival)
        torch.testing.assert_close(slope, gradient, rtol=1e-3, atol=1e-4, msg=rival)


def test_every_operator_takes_part() -> None:
    names = [contender.name.removesuffix(", forward") for contender in contenders.masks()]
    assert [name for name in names if name in OPERATORS] == list(OPERATORS)


@pytest.mark.skipif(cpu.library() is None, reason="the compiled kernels are not built")
@pytest.mark.parametrize(
    ("family", "kernel"),
    [
        (contenders.losses, "cascade_cross_entropy"),
        (contenders.joint_losses, "cascade_joint_cross_entropy"),
    ],
)
def test_compiled_contenders_run_the_kernel_of_their_name_and_torch_runs_none(
    family: Callable[[], list[Contender]], kernel: str
) -> None:
    given, real, levels = problem(2, 40), cpu.library(), []
    assert real is not None

    def noting(*arguments: int) -> object:
        levels.append(arguments[-2])
        return getattr(real, kernel)(*arguments)

    # Without the kernel of the boundary: the loss has no need of it.
    spy = SimpleNamespace(**{kernel: noting})
    for contender in family()[1:]:
        levels.clear()
        with patch.object(cpu, "_loaded", lambda: spy):
            run(contender, given)
        named = [i for i, name in enumerate(cpu.INSTRUCTION_SETS) if name in contender.name]
        assert levels == named, contender.name


def test_turns_are_taken_in_rounds_and_the_setting_is_not_timed() -> None:
    log: list[str] = []
    clock = itertools.count()

    @contextlib.contextmanager
    def setting() -> Iterator[None]:
        log.append("in")
        next(clock)
        yield
        log.append("out")

    def call(name: str, ticks: int) -> Turn:
        def turn() -> torch.Tensor:
            log.append(name)
            for _ in range(ticks):
                next(clock)
            return torch.empty(0)

        return turn

    entries = {"a": Entry(call("a", 3), 2, setting), "b": Entry(call("b", 4), 1)}
    with patch("time.perf_counter", lambda: float(next(clock))):
        times = timing.take_turns(entries, EFFORT, "cpu")
    assert len(times["a"]) == len(times["b"]) == EFFORT.rounds
    # The reading that ends a turn is one tick after its last: (2 * 3 + 1) / 2 and (4 + 1) / 1.
    assert times["a"] == [pytest.approx(3.5e6)] * 3
    assert times["b"] == [pytest.approx(5e6)] * 3
    assert [entry for entry in log if entry != "b"] == ["in", "a", "a", "out"] * 3


def test_quartiles_and_ratios_turn_by_turn() -> None:
    assert timing.spread([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)
    assert timing.spread([7.0]) == (7.0, 7.0, 7.0)
    assert timing.ratio([2.0, 80.0, 9.0], [1.0, 10.0, 3.0]) == 3.0


def test_a_contender_that_is_too_large_is_not_even_called() -> None:
    def never(_: Problem) -> Turn:
        raise AssertionError("called")

    large = Contender("large", never, lambda n, _: 1e9 * n)
    assert timing.admit(large, problem(1, 8), EFFORT, "cpu") == Absent("over 4 GB")


def test_a_contender_that_is_too_slow_is_left_out_with_the_reason() -> None:
    slow = Contender("slow", lambda _: lambda: torch.empty(0), lambda n, _: n)
    with patch.object(timing, "MOST_SECONDS", 0.0):
        assert timing.admit(slow, problem(1, 8), EFFORT, "cpu") == Absent("over 0 s")
    assert isinstance(timing.admit(slow, problem(1, 8), EFFORT, "cpu"), Entry)


def test_who_is_left_out_is_shown_with_the_reason_and_the_others_by_speed() -> None:
    times: dict[str, timing.Times | Absent] = {
        "slow": [8.0, 9.0],
        "dftopk": [2.0, 3.0],
        "huge": Absent("over 4 GB"),
    }
    (rows,) = mask.table([mask.MaskCase((2, 3), times)], "cpu").blocks.values()
    assert rows == [
        ["dftopk", "2.5", "2.25 to 2.75", "1.00"],
        ["slow", "8.5", "8.25 to 8.75", "3.50"],
        ["huge", "-", "over 4 GB", "-"],
    ]


def test_a_loss_is_held_to_the_first_and_to_both_floors() -> None:
    times: dict[str, timing.Times | Absent] = {
        "two kthvalue": [30.0, 40.0],
        "best": [10.0, 10.0],
        "slow": Absent("over 2 s"),
    }
    # 1,000 candidates: 12,000 bytes at 2.4 GB/s are 5 us; a copy moves 8,000 bytes in 4 us.
    case = loss.LossCase((10, 100), times, [4.0, 4.0], 2.4e9, {"best": 6.0})
    (rows,) = loss.table([case], "cpu").blocks.values()
    assert rows == [
        ["two kthvalue", "35", "32.5 to 37.5", "1.00", "5.83", "7.00", "-"],
        ["best", "10", "10 to 10", "3.50", "1.67", "2.00", "6"],
        ["slow", "-", "over 2 s", "-", "-", "-", "-"],
        ["floor, same size", "6", "6 to 6", "", "", "", ""],
        ["floor, memory", "5", "", "", "", "", ""],
    ]
    (rows,) = loss.table([case], "cuda").blocks.values()
    assert [row[-1] for row in rows[:2]] == ["11 %", "38 %"]  # of 9,000 bytes in 3.75 us


def test_a_power_law_is_found_again_with_its_interval() -> None:
    sizes = [100, 1000, 3162, 10_000, 31_623]
    noise = random.Random(0)
    exact = [growth.Point(n, 1, 0.01 * n**1.3 if n >= growth.FITTED_FROM else 9.9) for n in sizes]
    found = growth.fit(exact)
    assert found is not None
    assert found == pytest.approx((1.3, 1.3, 1.3), abs=1e-6)
    rough = [p._replace(row_us=p.row_us * math.exp(noise.gauss(0, 0.1))) for p in exact]
    fitted = growth.fit(rough)
    assert fitted is not None
    assert fitted.low < 1.3 < fitted.high
    # Of four points, by the formulas of a textbook: t with two degrees of freedom is 4.3027.
    x = np.log([p.n for p in rough[1:]])
    y = np.log([p.row_us for p in rough[1:]])
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    rest = y - y.mean() - slope * (x - x.mean())
    error = math.sqrt((rest**2).sum() / 2 / ((x - x.mean()) ** 2).sum())
    assert fitted == pytest.approx((slope, slope - 4.3027 * error, slope + 4.3027 * error), 1e-3)
    assert growth.fit(exact[:3]) is None


def test_hardware_is_described() -> None:
    assert processor() in hardware.machine()
    assert re.search(r"\b\d+ cores?\b", hardware.machine())
    assert hardware.versions("numpy").startswith("Python 3.")
    assert f"torch {torch.__version__}, numpy {np.__version__}" in hardware.versions("numpy")


def test_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    for index, size in enumerate(["48K", "2048K", "33M", ""]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    with patch.object(hardware, "CACHE", tmp_path):
        assert hardware.last_level_cache() == 33 * 2**20
    with patch.object(hardware, "CACHE", tmp_path / "none"):
        assert hardware.last_level_cache() is None


def rows_below(page: str, heading: str) -> list[list[str]]:
    """Cells of the table below a heading, its head included."""
    part = page.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


NUMBER = re.compile(r"[\d,.]+(e[+-]\d+)?")


@pytest.mark.slow
def test_the_quick_run_prints_and_writes_everything(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    ran = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert torch.get_num_threads() == threads
    if not torch.cuda.is_available():
        told = [line for line in ran.output.splitlines() if re.search("gpu|cuda", line, re.I)]
        assert told == ["no CUDA device: rows of a GPU are left out"]
    page = (tmp_path / "operators.md").read_text()
    assert f"python -m benchmarks.operators --quick --out {tmp_path}" in page
    for name in ("operators.png", "growth.png"):
        assert f"({name})" in page
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    losses = rows_below(page, "Mean cross-entropy of DFTopK")
    assert {len(row) for row in losses} == {8}
    named = [row[1] for row in losses[2:]]
    block = [c.name for c in contenders.losses()] + ["floor, same size", "floor, memory"]
    assert sorted(named) == sorted(block * len(QUICK.losses))
    assert all(NUMBER.fullmatch(row[2]) or row[3].startswith("over") for row in losses[2:])
    assert [row[0] for row in losses[2:] if row[0]] == ["**1 x 40**", "**64 x 160**"]
    first = [row[4] for row in losses if row[1] == contenders.TWO_KTHVALUE]
    assert first == ["1.00"] * len(QUICK.losses)

    masks = rows_below(page, "Soft masks")
    assert sorted(row[1] for row in masks[2:]) == sorted(
        [c.name for c in contenders.masks()] * len(QUICK.masks)
    )
    assert all(NUMBER.fullmatch(row[2]) or row[3].startswith("over") for row in masks[2:])
    assert [row[4] for row in masks if row[1] == "dftopk"] == ["1.00"] * len(QUICK.masks)

    grown = rows_below(page, "Growth with N")
    assert grown[0][1:3] == ["N = 100", "N = 1,000"]
    assert [row[0] for row in grown[2:]] == [c.name for c in contenders.growing()]
