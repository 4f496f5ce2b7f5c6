"""Every operator in every form, and what it says of a fate that is certain."""

from math import log
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from operators import CERTAIN, MIXED, OPERATORS, TopK, logits_operator


class Form(NamedTuple):
    """One operator as soft mask, as logits, or as logits of the mixed mask."""

    name: str
    call: TopK
    certain_in: float
    certain_out: float
    soft: bool

    def mask(self, values: Tensor) -> Tensor:
        """The soft mask that the values stand for."""
        if self.certain_out == 0.0:
            return values
        if self.certain_in == CERTAIN:
            return values.sigmoid()
        return (values.sigmoid() - MIXED) / (1 - 2 * MIXED)


def _forms() -> dict[str, Form]:
    forms = {}
    for name, operator in OPERATORS.items():
        forms[name] = Form(name, operator.topk, 1.0, 0.0, operator.trainable)
        if operator.trainable:
            edge = CERTAIN if operator.logits else log((1 - MIXED) / MIXED)
            form = Form(name, logits_operator(name), edge, -edge, soft=True)
            forms[f"{name}_logits" if operator.logits else f"{name}_mixed"] = form
    return forms


FORMS = _forms()
SOFT = {label: form for label, form in FORMS.items() if form.soft}
MASKS = {name: form for name, form in FORMS.items() if name in OPERATORS}

SUM_TO_K = {"lapsum", "sparse_topk", "logistic_topk", "diffsort_topk", "hard_topk"}
"""Operators whose soft mask sums to k."""
AT_MOST_K = {"neuralsort_topk", "softsort_topk"}
"""Operators whose soft mask may sum to less."""
ORDER_MATTERS = {"diffsort_topk", "hard_topk"}
"""Operators for which the order of the candidates matters: in ties, or always."""

TRACED = {label: form for label, form in FORMS.items() if not label.endswith("_mixed")}
"""Forms worth the seconds that tracing takes: mixing is the same for every operator."""
TRACED["sparse_topk_mixed"] = FORMS["sparse_topk_mixed"]

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
every_soft_form = pytest.mark.parametrize("form", SOFT.values(), ids=SOFT)
every_traced_form = pytest.mark.parametrize("form", TRACED.values(), ids=TRACED)
every_mask = pytest.mark.parametrize("form", MASKS.values(), ids=MASKS)


def scores_of(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient_of(
    form: Form, scores: Tensor, k: int | Tensor, tau: float, upstream: Tensor
) -> Tensor:
    leaf = scores.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad((form.call(leaf, k, tau) * upstream).sum(), leaf)
    return gradient
