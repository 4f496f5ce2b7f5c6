"""Operators by name."""

import subprocess
import sys

import pytest

from operators import OPERATORS, dftopk_logits, logits_operator


def test_finds_an_operator_by_name() -> None:
    assert logits_operator("dftopk") is dftopk_logits
    assert OPERATORS["dftopk"] is dftopk_logits


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^operator == 'topk' must be one of: dftopk$"):
        logits_operator("topk")


def test_importing_operators_loads_nothing_of_ours_and_nothing_heavy_beside_torch() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import operators; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["operators"]
