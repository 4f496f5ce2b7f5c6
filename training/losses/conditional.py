"""Cross-entropy of a list, given how many of it are positive: no score is spent on the request.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from operators import topk_cross_entropy
from training.losses.judgments import Judgments, Loss

EARLIER = 0.3
"""What a cut before the truth weighs."""


def conditional_cross_entropy(
    logits_BN: Tensor,
    labels_BN: Tensor,
    mask_BN: Tensor,
    weights_B: Tensor | None = None,
    tau: float = 1.0,
) -> Tensor:
    """Binary cross-entropy after a term of each request's own that fits it best.

    `p = sigmoid((x - theta_b) / tau)` with theta_b such that the p of a request sum to its
    positives. That theta_b minimises the request's cross-entropy, so the gradient is
    `(p - y) / tau`, and a constant that is added to a request's scores changes nothing: with
    logistic regression by strata, the profile likelihood, which is close to the likelihood given
    the number of positives where lists are long (Breslow and Day 1980, The analysis of case-control
    studies, chapter 7). With one positive in a long list it tends to the softmax cross-entropy.

    Args:
        logits_BN: floating point [B, N], less what sampling took, if anything.
        labels_BN: bool [B, N].
        mask_BN: bool [B, N], True where an entry is in the list.
        weights_B: floating point [B], at least 0: what each entry of a request weighs.
        tau: temperature, above 0, in the unit of the logits.

    Returns:
        Scalar: weighted mean over the entries of requests with positives and negatives; 0 if there
        are none.

    Raises:
        ValueError: an argument of a wrong type, shape or range.
    """
    labels_BN = labels_BN & mask_BN
    k_B = labels_BN.sum(1)
    return topk_cross_entropy(logits_BN, labels_BN, k_B, "logistic_topk", tau, mask_BN, weights_B)


class EveryCut(nn.Module):
    """`sum_t [C(x_t, y) + EARLIER sum_c C(x_t, d >= c)]`, C the conditional cross-entropy.

    y is the truth, d the depth of a candidate, and c runs over the depths that the batch has, but
    0: each cut that the logging cascade made is learnt by every stage, with a threshold of its own
    that the scores do not have to spend anything on. It uses of the log what the losses that
    compare grades in pairs use (FS-RankNet, FS-LambdaLoss), at the cost of a cut.

    Unpublished. `EARLIER` was chosen among 0, .3 and 1 by one validation day of a made-up log.
    """

    def __init__(self, tau: float) -> None:
        """Make the loss at a temperature."""
        super().__init__()
        self.tau = tau

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        depth_BN, valid_BN = judgments.depth_BN, judgments.valid_BN
        cuts = depth_BN[valid_BN].unique()
        labels = [(1.0, judgments.relevant_BN)]
        # At the deepest list the truth is the better cut: it holds no more than is answered with.
        labels += [(EARLIER, depth_BN >= cut) for cut in cuts[1:-1].tolist()]
        losses = []
        for scores_BN in stage_scores:
            terms = [
                weight
                * conditional_cross_entropy(
                    scores_BN, labels_BN, valid_BN, judgments.weights_B, self.tau
                )
                for weight, labels_BN in labels
            ]
            losses.append(torch.stack(terms).sum())
        return Loss(
            torch.stack(losses).sum(), {f"stage_{t}": loss for t, loss in enumerate(losses)}
        )
