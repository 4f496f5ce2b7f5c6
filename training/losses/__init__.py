"""Losses: entry by entry, through one stage's top-k, and through the whole cascade."""

from training.losses.joint import (
    joint_cross_entropy,
    survival_cross_entropy,
    topk_cross_entropy,
)
from training.losses.pointwise import binary_cross_entropy
from training.losses.uncertainty import UncertaintyWeighting

__all__ = [
    "UncertaintyWeighting",
    "binary_cross_entropy",
    "joint_cross_entropy",
    "survival_cross_entropy",
    "topk_cross_entropy",
]
