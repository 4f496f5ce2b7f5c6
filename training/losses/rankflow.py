"""RankFlow: each stage learns from what the stage before passes on, and teaches it in turn.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from training.losses.average import entry_mean, request_mean
from training.losses.cut import lowest_kept
from training.losses.judgments import Judgments, Loss


class RankFlow(nn.Module):
    """`sum_t BCE_t(passed_t) + sum_{t<T} [MSE_t(passed_{t+1}) + order_t]`.

    `passed_1` are all candidates, `passed_{t+1}` the keep_t best of `passed_t` by the scores of
    stage t. BCE_t is the cross-entropy with the truth, `MSE_t = (x_t - x_{t+1})^2` draws a stage
    to the scores of the next one, which are detached, and `order_t = log(1 + exp(m- - m+))` has the
    mean x_t of the candidates that stage t + 1 would keep (m+) and of those it would drop (m-).

    Source: Qin et al., RankFlow, SIGIR 2022, as the authors of LCRON (arXiv 2503.09492) code it:
    they leave `order` out with two stages (their alpha = 0), and so does this. Where this deviates
    from their code:
    - Padding is in no selection and no mean. There empty slots of the first list are positives.
    - Candidates that are tied at a cut all pass it.
    - A request in which nobody is dropped has no `order`.
    """

    def __init__(self, keeps: Sequence[int]) -> None:
        """Make the loss of two or three stages that keep `keeps`."""
        super().__init__()
        self.keeps = tuple(keeps)
        self.orders = len(keeps) > 2

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        weights_B = judgments.weights_B
        assert weights_B is not None
        labels_BN = judgments.relevant_BN.to(stage_scores[0].dtype)
        passed_BN = judgments.valid_BN
        parts: list[Tensor] = []
        for stage, scores_BN in enumerate(stage_scores):
            if stage:
                student_BN = stage_scores[stage - 1]
                passed_BN = _kept(student_BN, self.keeps[stage - 1], passed_BN)
                error_BN = (student_BN - scores_BN.detach()) ** 2
                parts[-1] = parts[-1] + entry_mean(error_BN, passed_BN, weights_B)
                if self.orders:
                    chosen_BN = _kept(scores_BN, self.keeps[stage], passed_BN)
                    parts[-1] = parts[-1] + _order(student_BN, chosen_BN, passed_BN, weights_B)
            losses_BN = binary_cross_entropy_with_logits(scores_BN, labels_BN, reduction="none")
            parts.append(entry_mean(losses_BN, passed_BN, weights_B))
        total = torch.stack(parts).sum()
        return Loss(total, {f"stage_{stage}": part for stage, part in enumerate(parts)})


def _kept(scores_BN: Tensor, keep: int, entered_BN: Tensor) -> Tensor:
    return entered_BN & (scores_BN >= lowest_kept(scores_BN, keep, entered_BN))


def _order(student_BN: Tensor, chosen_BN: Tensor, passed_BN: Tensor, weights_B: Tensor) -> Tensor:
    """The student's mean score of the chosen should be above that of the others that passed."""
    dropped_BN = passed_BN & ~chosen_BN
    lead_B = _mean(student_BN, dropped_BN) - _mean(student_BN, chosen_BN)
    return request_mean(softplus(lead_B), chosen_BN.any(1) & dropped_BN.any(1), weights_B)


def _mean(scores_BN: Tensor, of_BN: Tensor) -> Tensor:
    return scores_BN.masked_fill(~of_BN, 0.0).sum(1) / of_BN.sum(1).clamp(min=1)
