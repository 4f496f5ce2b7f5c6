"""Losses: entry by entry, through a top-k, through the cascade, and by the name of a benchmark."""

from operators import (
    UncertaintyWeighting,
    joint_cross_entropy,
    survival_cross_entropy,
    topk_cross_entropy,
)
from training.losses.cascade import CascadeLoss, cascade_loss
from training.losses.config import LossConfig
from training.losses.judgments import Judgments, Loss
from training.losses.pointwise import binary_cross_entropy

__all__ = [
    "CascadeLoss",
    "Judgments",
    "Loss",
    "LossConfig",
    "UncertaintyWeighting",
    "binary_cross_entropy",
    "cascade_loss",
    "joint_cross_entropy",
    "survival_cross_entropy",
    "topk_cross_entropy",
]
