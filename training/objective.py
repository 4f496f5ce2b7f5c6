"""Objective: what a run minimises, from both stages' scores of the same candidates.

Items of the user's own history reach ranking whatever retrieval says of them, so retrieval competes
only on the others. Legend: B requests, N candidates.
"""

from typing import NamedTuple

from torch import Tensor, nn

from training.config import TrainConfig
from training.data.sampling import Candidates
from training.losses import (
    UncertaintyWeighting,
    binary_cross_entropy,
    joint_cross_entropy,
    topk_cross_entropy,
)


class Loss(NamedTuple):
    """A scalar to minimise, and what it is made of."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module):
    """The loss of a configuration; the joint one learns the weights of its terms."""

    def __init__(self, config: TrainConfig) -> None:
        """Make the objective that `config.objective` names."""
        super().__init__()
        self.joint = config.objective == "joint"
        self.operator = config.operator
        self.tau = config.tau
        self.weighting = UncertaintyWeighting(3) if self.joint else None

    def forward(self, retrieval_BN: Tensor, rank_BN: Tensor, candidates: Candidates) -> Loss:
        """Loss of the stages' logits, float [B, N] each."""
        retrieval_BN = retrieval_BN - candidates.log_rate_BN
        rank_BN = rank_BN - candidates.log_rate_BN
        if self.weighting is None:
            parts = self._separate(retrieval_BN, rank_BN, candidates)
            return Loss(parts["retrieval"] + parts["rank"], parts)
        parts = self._joint(retrieval_BN, rank_BN, candidates)
        return Loss(self.weighting(list(parts.values())), parts)

    def _separate(
        self, retrieval_BN: Tensor, rank_BN: Tensor, candidates: Candidates
    ) -> dict[str, Tensor]:
        labels_BN, valid_BN = candidates.labels_BN, candidates.valid_BN
        competing_BN = valid_BN & ~candidates.in_history_BN
        return {
            "retrieval": binary_cross_entropy(retrieval_BN, labels_BN, competing_BN),
            "rank": binary_cross_entropy(rank_BN, labels_BN, valid_BN),
        }

    def _joint(
        self, retrieval_BN: Tensor, rank_BN: Tensor, candidates: Candidates
    ) -> dict[str, Tensor]:
        labels_BN, valid_BN = candidates.labels_BN, candidates.valid_BN
        competing_BN = valid_BN & ~candidates.in_history_BN
        # Each stage has as many places as items were bought among those that compete in it.
        retrieval_k_B = (labels_BN & competing_BN).sum(1)
        rank_k_B = labels_BN.sum(1)
        return {
            "retrieval": topk_cross_entropy(
                retrieval_BN, labels_BN, retrieval_k_B, self.operator, self.tau, competing_BN
            ),
            "rank": topk_cross_entropy(
                rank_BN, labels_BN, rank_k_B, self.operator, self.tau, valid_BN
            ),
            "joint": joint_cross_entropy(
                [retrieval_BN, rank_BN],
                labels_BN,
                [retrieval_k_B, rank_k_B],
                self.operator,
                self.tau,
                masks=[competing_BN, valid_BN],
                passes=[candidates.in_history_BN, None],
            ),
        }
