"""Operators by the name that configurations use."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from operators.dftopk import dftopk_logits


class TopKLogits(Protocol):
    """An operator in its logits form; the arguments are those of `dftopk_logits`."""

    def __call__(
        self, scores: Tensor, k: int | Tensor, tau: float = 1.0, mask: Tensor | None = None
    ) -> Tensor:
        """Logits of the soft membership, [..., N]."""
        ...


OPERATORS: Mapping[str, TopKLogits] = MappingProxyType({"dftopk": dftopk_logits})
"""Every operator that has a logits form."""


def logits_operator(name: str) -> TopKLogits:
    """The operator called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in OPERATORS:
        raise ValueError(f"operator == {name!r} must be one of: {', '.join(sorted(OPERATORS))}")
    return OPERATORS[name]
