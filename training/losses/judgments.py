"""Judgments: what is known about the candidates of a batch, and a loss made of them.

Legend: B requests, N candidates.
"""

from typing import NamedTuple

from torch import Tensor


class Judgments(NamedTuple):
    """Candidates of B requests, the same for every stage of the cascade."""

    grades_BN: Tensor
    """float32, at least 0: how good a candidate is; 0 for a negative drawn at random."""
    depth_BN: Tensor
    """int64, how many stages of the logging cascade the candidate had passed when it was last seen;
    0 for a negative drawn at random."""
    relevant_BN: Tensor
    """bool, the truth: what the cascade should answer with. Valid, at most `truth` a request."""
    valid_BN: Tensor
    """bool, False in the padding. Nothing of a padded entry reaches a loss."""
    weights_B: Tensor | None = None
    """float32, at least 0: what a request weighs; 1 if absent."""


class Loss(NamedTuple):
    """A scalar to minimise, and what it is made of."""

    total: Tensor
    parts: dict[str, Tensor]
