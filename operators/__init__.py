"""Differentiable top-k selection: a library on its own that needs nothing but torch."""

from operators.dftopk import CERTAIN, dftopk, dftopk_logits
from operators.hard import hard_topk
from operators.registry import OPERATORS, TopKLogits, logits_operator

__all__ = [
    "CERTAIN",
    "OPERATORS",
    "TopKLogits",
    "dftopk",
    "dftopk_logits",
    "hard_topk",
    "logits_operator",
]
