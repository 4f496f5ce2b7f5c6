"""Objective: what a run minimises, from the scores each stage gives to what it meets.

A request weighs 1 / min(K, items bought): the metric is a share of what was bought, so a
short trip counts as much as a long one.

Legend: B requests, N candidates, I items, K answered items.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from operators import logits_operator
from training.answers import NUM
from training.config import TrainConfig
from training.data.sampling import CandidateList, Candidates
from training.losses import (
    binary_cross_entropy,
    survival_cross_entropy,
    topk_cross_entropy,
)


class Loss(NamedTuple):
    """A scalar to minimise, and what it is made of."""

    total: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module):
    """The loss of a configuration.

    `separate` is binary cross-entropy for each stage. `joint` ranks through the operator, and adds
    the cross-entropy of surviving the whole cascade: the operator's cut through the catalogue where
    retrieval makes it, times the operator's cut in ranking.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Make the objective that `config.objective` names.

        Raises:
            ValueError: there is no operator of the configuration's name, or it has no gradient.
        """
        super().__init__()
        self.logits_of = logits_operator(config.operator)
        self.joint_weight = config.joint_weight if config.objective == "joint" else None
        self.operator = config.operator
        self.tau = config.tau
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
        retrieval_BN = _at(catalogue_BI, met.rows_BN) - met.log_rate_BN
        rank_BN = rank_BN - candidates.rank.log_rate_BN
        parts = {"retrieval": _pointwise(retrieval_BN, met, weights_B)}
        if self.joint_weight is None:
            parts["rank"] = _pointwise(rank_BN, candidates.rank, weights_B)
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


def _at(catalogue_BI: Tensor, rows_BN: Tensor) -> Tensor:
    """Logits of item rows, float [B, N]; any number in the padding."""
    return catalogue_BI.gather(1, (rows_BN - 1).clamp(min=0))


def _pointwise(logits_BN: Tensor, met: CandidateList, weights_B: Tensor) -> Tensor:
    weights_BN = weights_B.unsqueeze(1).expand_as(logits_BN)
    return binary_cross_entropy(logits_BN, met.labels_BN, met.competes_BN, weights_BN)
