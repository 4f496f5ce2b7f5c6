"""Operators by name."""

import subprocess
import sys
from math import log

import pytest
import torch

from operators import (
    MIXED,
    OPERATORS,
    dftopk,
    dftopk_logits,
    hard_topk,
    logits_operator,
    softsort_topk,
    topk_operator,
)

NAMES = ["dftopk", "diffsort_topk", "hard_topk", "lapsum", "logistic_topk", "neuralsort_topk"]
NAMES += ["softsort_topk", "sparse_topk"]


def test_finds_an_operator_by_name() -> None:
    assert logits_operator("dftopk") is dftopk_logits
    assert topk_operator("dftopk") is dftopk
    assert topk_operator("hard_topk") is hard_topk
    assert OPERATORS["dftopk"].logits is dftopk_logits
    assert sorted(OPERATORS) == NAMES


def test_names_cannot_be_overwritten() -> None:
    with pytest.raises(TypeError):
        OPERATORS["dftopk"] = OPERATORS["hard_topk"]  # type: ignore[index]


@pytest.mark.parametrize("find", [topk_operator, logits_operator])
@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("topk", "; did you mean 'dftopk'?"), ("dftok", "; did you mean 'dftopk'?"), ("", "")],
)
def test_unknown_name_lists_the_known_ones_and_the_closest(
    find: type, wrong: str, hint: str
) -> None:
    with pytest.raises(ValueError, match="must be one of") as error:
        find(wrong)
    assert str(error.value) == f"operator == {wrong!r} must be one of: {', '.join(NAMES)}{hint}"


def test_an_operator_without_gradient_is_not_trained_through() -> None:
    message = (
        r"^operator == 'hard_topk' has no gradient and must not be trained through; use dftopk"
    )
    with pytest.raises(ValueError, match=message):
        logits_operator("hard_topk")


def test_logits_of_a_mixed_mask_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.2, 1e4], [2.0, 1.0, 0.0]], dtype=torch.float64)
    scores.requires_grad_()
    k = torch.tensor([1, 3])
    logits = logits_operator("softsort_topk")(scores, k, 0.5)
    edge = log((1 - MIXED) / MIXED)
    assert logits[0].tolist() == pytest.approx([-edge, -edge, edge])
    assert logits[1].tolist() == pytest.approx([edge] * 3)
    assert not torch.autograd.grad(logits.sum(), scores)[0].any()

    row = scores.detach()[1].requires_grad_()
    mixed = MIXED + (1 - 2 * MIXED) * softsort_topk(row, 2, 0.5)
    (expected,) = torch.autograd.grad((mixed.log() - (1 - mixed).log())[1], row)
    (gradient,) = torch.autograd.grad(logits_operator("softsort_topk")(row, 2, 0.5)[1], row)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=0)


def test_mixed_logits_of_half_precision_are_not_rounded_before_the_logarithm() -> None:
    scores = torch.tensor([3.0, 1.0, 0.0], dtype=torch.bfloat16)
    logits = logits_operator("softsort_topk")(scores, 1, 0.25)
    assert logits.dtype == torch.bfloat16
    expected = logits_operator("softsort_topk")(scores.double(), 1, 0.25)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-2, atol=0)


def test_importing_operators_loads_nothing_of_ours_and_nothing_beside_torch() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import operators; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(loaded.stdout.split()) <= {"operators", *sys.stdlib_module_names}
