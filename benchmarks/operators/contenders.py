"""Who is timed: the operators and losses of this library, and what one would use in their place."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from benchmarks.operators.problem import Contender, Problem, Turn, backward
from operators import OPERATORS, joint_cross_entropy, topk_cross_entropy
from operators.kernels import cpu, triton_cross_entropy
from tests.operators import textbook

with contextlib.redirect_stdout(io.StringIO()):  # it prints that torch-sparse is not installed
    import difftopk
import entmax

Mask = Callable[[Tensor, int], Tensor]

TWO_KTHVALUE = "two kthvalue"
TORCH = "torch operations"
"""This library without its compiled kernels."""


def _linear(n: int, k: int) -> float:  # noqa: ARG001
    return 8 * n


def _sorting(n: int, k: int) -> float:  # noqa: ARG001
    return 21 * n


def _rows_of_matrix(n: int, k: int) -> float:
    return 4.2 * k * n


def _matrix(n: int, k: int) -> float:  # noqa: ARG001
    return 8.1 * n * n


def _network(n: int, k: int) -> float:  # noqa: ARG001
    return 5.2 * _layers(n) * float(2 ** math.ceil(math.log2(n)))


def _matrices(n: int, k: int) -> float:  # noqa: ARG001
    return 4 * _layers(n) * n * n


def _layers(n: int) -> int:
    depth = math.ceil(math.log2(n))
    return depth * (depth + 1) // 2


def two_kthvalue(scores: Tensor, k: int) -> Tensor:
    """DFTopK as one would first write it: two selections, and autograd through both."""
    n = scores.shape[-1]
    upper = scores.kthvalue(n - k + 1, dim=-1, keepdim=True).values
    lower = scores.kthvalue(n - k, dim=-1, keepdim=True).values
    return torch.sigmoid(scores - (upper + lower) / 2)


def _first_loss(problem: Problem) -> Turn:
    def turn() -> Tensor:
        soft = two_kthvalue(problem.scores, problem.k)
        return backward(problem, binary_cross_entropy(soft, problem.targets))

    return turn


def _our_loss(problem: Problem) -> Turn:
    def turn() -> Tensor:
        loss = topk_cross_entropy(problem.scores, problem.labels, problem.k)
        return backward(problem, loss)

    return turn


def _second_stage(problem: Problem) -> tuple[Tensor, int]:
    """Scores of a stage that keeps half as many, a leaf."""
    return problem.upstream.clone().requires_grad_(), max(problem.k // 2, 1)


def _first_joint_loss(problem: Problem) -> Turn:
    other, k = _second_stage(problem)

    def turn() -> Tensor:
        other.grad = None
        survival = two_kthvalue(problem.scores, problem.k) * two_kthvalue(other, k)
        return backward(problem, binary_cross_entropy(survival, problem.targets))

    return turn


def _our_joint_loss(problem: Problem) -> Turn:
    other, k = _second_stage(problem)

    def turn() -> Tensor:
        other.grad = None
        stages = [problem.scores, other]
        return backward(problem, joint_cross_entropy(stages, problem.labels, [problem.k, k]))

    return turn


@contextlib.contextmanager
def instructions(level: int) -> Iterator[None]:
    """Let kernels use no more than this instruction set; torch operations instead if negative."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(cpu, "instruction_set", lambda: level))
        if level < 0:
            stack.enter_context(patch.object(cpu, "built", lambda: False))
            stack.enter_context(patch.object(triton_cross_entropy, "supports", lambda _: False))
        yield


def losses(device: str = "cpu") -> list[Contender]:
    """Mean cross-entropy of DFTopK, forward and backward; the first is what others are held to."""
    found = [
        Contender(TWO_KTHVALUE, _first_loss, _linear, ours=False),
        Contender(TORCH, _our_loss, _linear, partial(instructions, -1)),
    ]
    if device != "cpu":
        return [*found, Contender("Triton", _our_loss, _linear)]
    return [*found, *_compiled(_our_loss)]


def joint_losses(device: str = "cpu") -> list[Contender]:
    """The same of surviving two stages, by the product of both soft masks."""
    found = [
        Contender(TWO_KTHVALUE, _first_joint_loss, _linear, ours=False),
        Contender(TORCH, _our_joint_loss, _linear, partial(instructions, -1)),
    ]
    return found if device != "cpu" else [*found, *_compiled(_our_joint_loss)]


def _compiled(prepare: Callable[[Problem], Turn]) -> list[Contender]:
    """One for every instruction set that this processor has."""
    return [
        Contender(
            f"compiled, {cpu.INSTRUCTION_SETS[level]}",
            prepare,
            _linear,
            partial(instructions, level),
        )
        for level in range(cpu.instruction_set() + 1)
    ]


def _mask(name: str, mask: Mask, numbers: Callable[[int, int], float], ours: bool) -> Contender:
    def prepare(problem: Problem) -> Turn:
        return lambda: backward(problem, mask(problem.scores, problem.k), problem.upstream)

    return Contender(name, prepare, numbers, ours=ours)


def _hard(problem: Problem) -> Turn:
    return lambda: OPERATORS["hard_topk"].topk(problem.scores, problem.k)


def _topk(problem: Problem) -> Turn:
    def turn() -> Tensor:
        values = problem.scores.topk(problem.k, sorted=False).values
        return backward(problem, values, problem.upstream[:, : problem.k])

    return turn


def _sort(problem: Problem) -> Turn:
    return lambda: backward(problem, problem.scores.sort(-1).values, problem.upstream)


def _bitonic(problem: Problem) -> Turn:
    net = difftopk.DiffTopkNet(
        "bitonic",
        problem.scores.shape[-1],
        problem.k,
        device=str(problem.scores.device),
        steepness=1.0,
        distribution="cauchy",
    )

    def turn() -> Tensor:
        return backward(problem, net(problem.scores)[1].sum(-1), problem.upstream)

    return turn


def _neuralsort(scores: Tensor, k: int) -> Tensor:
    matrix: Tensor = difftopk.NeuralSort(1.0)(scores)  # lowest score first
    return matrix[:, :, -k:].sum(-1).clamp(max=1)


def _softsort(scores: Tensor, k: int) -> Tensor:
    matrix: Tensor = difftopk.SoftSort(1.0)(scores)
    return matrix[:, :k].sum(-2).clamp(max=1)


def _budget_bisect(scores: Tensor, k: int) -> Tensor:
    soft: Tensor = entmax.budget_bisect(scores, budget=k)
    return soft


NUMBERS = {
    "neuralsort_topk": _rows_of_matrix,
    "softsort_topk": _rows_of_matrix,
    "diffsort_topk": _network,
}
"""Of the operators that hold more than a few numbers for a candidate."""


def operators() -> list[Contender]:
    """Every operator of this library, as a soft mask."""
    return [
        _mask(name, operator.topk, NUMBERS.get(name, _linear), ours=True)
        if operator.trainable
        else Contender(f"{name}, forward", _hard, _linear)
        for name, operator in OPERATORS.items()
    ]


def masks() -> list[Contender]:
    """Soft masks with a given gradient coming back; tau = 1. The first is what others are held to.

    `torch.topk` gives values and no mask: the least that an operator which selects has to do.
    """
    return [
        *operators(),
        _mask(TWO_KTHVALUE, two_kthvalue, _linear, ours=False),
        _mask("LapSum by sorting", _textbook(textbook.LapSum), _sorting, ours=False),
        _mask("sparse by sorting", _textbook(textbook.Sparse), _sorting, ours=False),
        _mask("entmax.budget_bisect", _budget_bisect, _linear, ours=False),
        _mask("difftopk.NeuralSort", _neuralsort, _matrix, ours=False),
        _mask("difftopk.SoftSort", _softsort, _matrix, ours=False),
        Contender("difftopk, bitonic", _bitonic, _matrices, ours=False),
        Contender("torch.topk", _topk, _linear, ours=False),
    ]


def _textbook(function: type[torch.autograd.Function]) -> Mask:
    def mask(scores: Tensor, k: int) -> Tensor:
        soft: Tensor = function.apply(scores, k, 1.0)
        return soft

    return mask


SAME = {
    TWO_KTHVALUE: "dftopk",
    "LapSum by sorting": "lapsum",
    "sparse by sorting": "sparse_topk",
    "entmax.budget_bisect": "sparse_topk",
    "difftopk.NeuralSort": "neuralsort_topk",
    "difftopk.SoftSort": "softsort_topk",
}
"""Rivals that compute what an operator does, value and gradient."""


def growing(device: str = "cpu") -> list[Contender]:
    """Whose time is followed as N grows."""
    _, torch_only, *compiled = losses(device)
    rivals = [
        Contender("torch.topk", _topk, _linear, ours=False),
        Contender("torch.sort", _sort, _linear, ours=False),
    ]
    best = [torch_only, *compiled[-1:]]
    named = [loss._replace(name=f"dftopk loss, {loss.name}") for loss in best]
    soft = [operator for operator in operators() if not operator.name.startswith("hard")]
    return [*named, *soft, *rivals]
