"""Objective: what a run minimises, from the scores each stage gives to what it meets.

A request weighs 1 / min(K, items bought): the metric is a share of what was bought, so a
short trip counts as much as a long one.

Legend: B requests, N candidates, I items, K answered items.
"""

import torch
from torch import Tensor, nn

from operators import logits_operator
from training.answers import NUM
from training.config import CandidateConfig, TrainConfig
from training.data.sampling import CandidateList, Candidates
from training.features import OOV
from training.losses import (
    binary_cross_entropy,
    survival_cross_entropy,
    topk_cross_entropy,
)
from training.losses.cascade import cascade_loss
from training.losses.conditional import conditional_cross_entropy
from training.losses.judgments import Judgments, Loss
from training.losses.threshold import OPERATOR_OF


class Objective(nn.Module):
    """The loss of a configuration.

    Where each stage has a list of its own, `bce` is binary cross-entropy for each stage, and
    `conditional` the same given how many of the list were bought. A loss with a cut ranks through
    its operator, and adds the cross-entropy of surviving the whole cascade: the operator's cut
    through the catalogue where retrieval makes it, times the operator's cut in ranking. Retrieval
    keeps binary cross-entropy beside it.

    Where the list is shared, the loss is the published one over the scores of both stages, as they
    are: no paper gives back what sampling took.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Make the objective that `config.loss` and `config.candidates` name."""
        super().__init__()
        self.published = _published(config) if config.candidates.shared else None
        self.operator = OPERATOR_OF.get(config.loss.name)
        self.logits_of = logits_operator(self.operator or "dftopk")
        self.conditional = config.loss.name == "conditional"
        self.joint_weight = config.joint_weight
        self.tau = config.loss.tau
        self.keep = config.retrieval.keep

    def forward(self, catalogue_BI: Tensor, rank_BN: Tensor, candidates: Candidates) -> Loss:
        """Loss of a batch.

        Args:
            catalogue_BI: float [B, I], retrieval's logits of all items but the unknown one.
            rank_BN: float [B, N], ranking's logits of its candidates.
            candidates: what each stage met.
        """
        weights_B = 1 / candidates.rank.labels_BN.sum(1).clamp(1, NUM).to(rank_BN.dtype)
        met = candidates.retrieval
        retrieval_BN = _at(catalogue_BI, met.rows_BN)
        if self.published is not None:
            loss: Loss = self.published([retrieval_BN, rank_BN], judged(met, weights_B))
            return loss
        retrieval_BN = retrieval_BN - met.log_rate_BN
        rank_BN = rank_BN - candidates.rank.log_rate_BN
        alone = self._conditional if self.conditional else _pointwise
        parts = {"retrieval": alone(retrieval_BN, met, weights_B)}
        if self.operator is None:
            parts["rank"] = alone(rank_BN, candidates.rank, weights_B)
            return Loss(parts["retrieval"] + parts["rank"], parts)
        labels_BN, competes_BN = candidates.rank.labels_BN, candidates.rank.competes_BN
        # Ranking has as many places as items were bought among those that reach it.
        k_B = (labels_BN & competes_BN).sum(1)
        parts["rank"] = topk_cross_entropy(
            rank_BN, labels_BN, k_B, self.operator, self.tau, competes_BN, weights_B
        )
        parts["joint"] = self._survival(catalogue_BI, rank_BN, k_B, candidates, weights_B)
        total = parts["retrieval"] + parts["rank"] + self.joint_weight * parts["joint"]
        return Loss(total, parts)

    def _conditional(self, logits_BN: Tensor, met: CandidateList, weights_B: Tensor) -> Tensor:
        return conditional_cross_entropy(
            logits_BN, met.labels_BN, met.competes_BN, weights_B, self.tau
        )

    def _survival(
        self,
        catalogue_BI: Tensor,
        rank_BN: Tensor,
        k_B: Tensor,
        candidates: Candidates,
        weights_B: Tensor,
    ) -> Tensor:
        """Cross-entropy of surviving both stages.

        Items of the history reach ranking by a source of their own, so retrieval does not decide
        about them. Retrieval answers for bought items that it loses; an item that is not bought and
        reaches ranking is ranking's to drop, so there retrieval's part is taken as given.
        """
        met = candidates.rank
        cut_BN = _at(self.logits_of(catalogue_BI, self.keep, self.tau), met.rows_BN)
        cut_BN = torch.where(met.labels_BN, cut_BN, cut_BN.detach())
        place_BN = self.logits_of(rank_BN, k_B, self.tau, met.competes_BN)
        open_B1 = ((k_B > 0) & (k_B < met.competes_BN.sum(1))).unsqueeze(1)
        decided_BN = met.competes_BN & open_B1
        recall_BN = (met.rows_BN > 0) & ~candidates.in_history_BN
        return survival_cross_entropy(
            [cut_BN, place_BN],
            met.labels_BN,
            [recall_BN, decided_BN],
            decided_BN | (recall_BN & ~met.competes_BN),
            weights_B,
        )


def judged(met: CandidateList, weights_B: Tensor) -> Judgments:
    """What is known about a shared list: bought items passed both stages.

    What competes has passed retrieval, and random items have passed nothing.
    """
    depth_BN = torch.where(met.labels_BN, 2, met.competes_BN.long())
    return Judgments(
        grades_BN=met.labels_BN.to(weights_B.dtype),
        depth_BN=depth_BN,
        relevant_BN=met.labels_BN,
        valid_BN=met.rows_BN != OOV,
        weights_B=weights_B,
    )


def shared_keeps(config: CandidateConfig) -> tuple[int, int]:
    """What each stage keeps of a shared list: retrieval all that is not random, ranking K."""
    met = config.positives + config.history_negatives + config.recalled_negatives
    return max(met, NUM + 1), NUM


def _published(config: TrainConfig) -> nn.Module:
    # Retrieval meets everything, ranking what has passed retrieval. Published cuts are at the size
    # of the truth: here what was bought.
    keeps = shared_keeps(config.candidates)
    return cascade_loss(config.loss, keeps, truth=None, entry_depths=(0, 1))


def _at(catalogue_BI: Tensor, rows_BN: Tensor) -> Tensor:
    """Logits of item rows, float [B, N]; any number in the padding."""
    return catalogue_BI.gather(1, (rows_BN - 1).clamp(min=0))


def _pointwise(logits_BN: Tensor, met: CandidateList, weights_B: Tensor) -> Tensor:
    weights_BN = weights_B.unsqueeze(1).expand_as(logits_BN)
    return binary_cross_entropy(logits_BN, met.labels_BN, met.competes_BN, weights_BN)
