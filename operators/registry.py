"""Operators by the name that configurations use."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from operators.arguments import check_scores
from operators.dftopk import dftopk, dftopk_logits
from operators.diffsort import diffsort_topk
from operators.hard import hard_topk
from operators.permutation import neuralsort_topk, softsort_topk
from operators.threshold import (
    lapsum,
    lapsum_logits,
    logistic_topk,
    logistic_topk_logits,
    sparse_topk,
)

MIXED = 1e-4
"""Share of a fair coin, twice this, that is mixed into a probability which has no logits form.

Next to 1 float32 numbers are 6e-8 apart, and a membership that is summed from k rows is off by more
than that. With 1e-4 the logarithm of the rest keeps about three digits; it costs at most 9.2.
"""


class TopK(Protocol):
    """An operator, as soft mask or as logits; the arguments are those of `dftopk`."""

    def __call__(
        self, scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
    ) -> Tensor:
        """Soft membership or its logits, [..., N]."""
        ...


class Operator(NamedTuple):
    """The forms an operator has."""

    topk: TopK
    """Membership in [0, 1]."""
    logits: TopK | None
    """Logits of the membership; None where it reaches 0 and 1, so that it has none."""
    trainable: bool = True
    """Whether it has a gradient."""


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "dftopk": Operator(dftopk, dftopk_logits),
        "lapsum": Operator(lapsum, lapsum_logits),
        "logistic_topk": Operator(logistic_topk, logistic_topk_logits),
        "sparse_topk": Operator(sparse_topk, None),
        "neuralsort_topk": Operator(neuralsort_topk, None),
        "softsort_topk": Operator(softsort_topk, None),
        "diffsort_topk": Operator(diffsort_topk, None),
        "hard_topk": Operator(hard_topk, None, trainable=False),
    }
)
"""Every operator, by the name of its function."""


def topk_operator(name: str) -> TopK:
    """The operator called `name`, which gives the soft mask.

    Raises:
        ValueError: there is none of that name.
    """
    return _operator(name).topk


def logits_operator(name: str) -> TopK:
    """The operator called `name` in the form that losses need: finite logits with a gradient.

    An operator without logits of its own gives those of `MIXED + (1 - 2 MIXED) p`, whose gradient
    is the gradient of that mixture; their sigmoid is therefore within 1e-4 of p and not p.

    Raises:
        ValueError: there is none of that name, or it has no gradient.
    """
    operator = _operator(name)
    if not operator.trainable:
        raise ValueError(
            f"operator == {name!r} has no gradient and must not be trained through; "
            "use dftopk with a small tau"
        )
    return operator.logits or partial(_mixed_logits, operator.topk)


def _operator(name: str) -> Operator:
    if name not in OPERATORS:
        close = get_close_matches(str(name), OPERATORS, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"operator == {name!r} must be one of: {', '.join(sorted(OPERATORS))}{hint}"
        )
    return OPERATORS[name]


def _mixed_logits(
    topk: TopK, scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    check_scores(scores)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    soft = topk(wide, k, tau, mask)
    share = 1 - 2 * MIXED
    mixed, rest = MIXED + share * soft, MIXED + share * (1 - soft)
    return (mixed.log() - rest.log()).to(scores.dtype)
