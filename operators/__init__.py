"""Differentiable top-k selection: a library on its own that needs nothing but torch."""

from operators.cross_entropy import joint_cross_entropy, topk_cross_entropy
from operators.dftopk import CERTAIN, dftopk, dftopk_logits
from operators.diffsort import diffsort, diffsort_topk
from operators.hard import hard_topk
from operators.permutation import neuralsort, neuralsort_topk, softsort, softsort_topk
from operators.registry import MIXED, OPERATORS, Operator, TopK, logits_operator, topk_operator
from operators.survival import survival_cross_entropy
from operators.threshold import (
    lapsum,
    lapsum_logits,
    logistic_topk,
    logistic_topk_logits,
    sparse_topk,
)
from operators.uncertainty import UncertaintyWeighting

__all__ = [
    "CERTAIN",
    "MIXED",
    "OPERATORS",
    "Operator",
    "TopK",
    "UncertaintyWeighting",
    "dftopk",
    "dftopk_logits",
    "diffsort",
    "diffsort_topk",
    "hard_topk",
    "joint_cross_entropy",
    "lapsum",
    "lapsum_logits",
    "logistic_topk",
    "logistic_topk_logits",
    "logits_operator",
    "neuralsort",
    "neuralsort_topk",
    "softsort",
    "softsort_topk",
    "sparse_topk",
    "survival_cross_entropy",
    "topk_cross_entropy",
    "topk_operator",
]
