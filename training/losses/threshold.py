"""Losses through a differentiable top-k: membership of each stage's cut, and survival of all.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from operators import UncertaintyWeighting, joint_cross_entropy, topk_cross_entropy
from training.losses.judgments import Judgments, Loss

OPERATOR_OF: Mapping[str, str] = MappingProxyType(
    {
        "dftopk": "dftopk",
        "lapsum": "lapsum",
        "sparse": "sparse_topk",
        "logistic": "logistic_topk",
    }
)
"""The operator of a loss."""


class JointTopK(nn.Module):
    """`joint + sum_t .5/w_t^2 BCE(p_t, y) + ln w_t`, `joint = BCE(prod_t p_t, y)`, w_t learned.

    p_t is the soft membership of the k best of stage t by the loss's operator, y the truth and k
    its size, in every stage; w_t is learned as ln w_t^2, so that it stays positive.

    Source: DFTopK (arXiv 2510.11472); published for two stages with tau 500, LapSum
    at alpha (tau) 5 and the sparse operator at l (tau) 1. Where this deviates from their code:
    - Padding is in no cut and no mean, nor is a request with no more than k candidates.
    - Logits and the logarithm of the product are used throughout. There the product is a product of
      sigmoids, whose gradient vanishes where they saturate, LapSum's logarithms have 1e-6 added,
      and the sparse operator's memberships go through a sigmoid a second time.
    - The gradient of the threshold is shared by all candidates tied with it.
    """

    def __init__(self, stages: int, truth: int | None, operator: str, tau: float) -> None:
        """Make the loss of `stages` stages; k is `truth`, or if None the size of each truth."""
        super().__init__()
        self.truth, self.operator, self.tau = truth, operator, tau
        self.weighting = UncertaintyWeighting(stages)

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        truth_BN, valid_BN, weights_B = (
            judgments.relevant_BN, judgments.valid_BN, judgments.weights_B,
        )  # fmt: skip
        k = truth_BN.sum(1) if self.truth is None else self.truth
        operator, tau = self.operator, self.tau
        losses = [
            topk_cross_entropy(scores_BN, truth_BN, k, operator, tau, valid_BN, weights_B)
            for scores_BN in stage_scores
        ]
        ks = [k] * len(losses)
        joint = joint_cross_entropy(
            stage_scores, truth_BN, ks, operator, tau, valid_BN, weights=weights_B
        )
        parts = {f"stage_{stage}": loss for stage, loss in enumerate(losses)}
        return Loss(self.weighting(losses) + joint, parts | {"joint": joint})
