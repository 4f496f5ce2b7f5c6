"""Losses: entry by entry, and from `operators` those through a top-k and through the cascade."""

from operators import (
    UncertaintyWeighting,
    joint_cross_entropy,
    survival_cross_entropy,
    topk_cross_entropy,
)
from training.losses.pointwise import binary_cross_entropy

__all__ = [
    "UncertaintyWeighting",
    "binary_cross_entropy",
    "joint_cross_entropy",
    "survival_cross_entropy",
    "topk_cross_entropy",
]
