"""Binary cross-entropy of every stage on what reached it: the cascade trained stage by stage.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.losses.judgments import Judgments, Loss
from training.losses.pointwise import binary_cross_entropy


class StagewiseCrossEntropy(nn.Module):
    """`sum_t mean_j BCE(x_tj, y_j)`, over the candidates j whose depth is at least `entry_t`.

    y is 1 for the truth. It is the baseline BCE of LCRON (arXiv 2503.09492).
    The public code sums over all slots alike and divides by their number; here the mean is over
    the valid ones, and every entry has its request's weight. Its positives are the list of the
    last stage's winners; the truth is the same where that list is full.
    """

    def __init__(self, entry_depths: Sequence[int]) -> None:
        """Make the loss for stages that a candidate of depth `entry_depths[t]` reaches."""
        super().__init__()
        self.entry_depths = tuple(entry_depths)

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        assert judgments.weights_B is not None
        weights_BN = judgments.weights_B.unsqueeze(1).expand_as(judgments.grades_BN)
        losses = [
            binary_cross_entropy(
                scores_BN,
                judgments.relevant_BN,
                judgments.valid_BN & (judgments.depth_BN >= entry),
                weights_BN,
            )
            for scores_BN, entry in zip(stage_scores, self.entry_depths, strict=True)
        ]
        return Loss(
            torch.stack(losses).sum(), {f"stage_{t}": loss for t, loss in enumerate(losses)}
        )
