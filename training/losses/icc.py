"""ICC: a cascade scored as one ensemble with soft indicators of survival, trained on pairs.

Legend: B requests, N candidates, b requests of a chunk, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.losses.average import request_mean
from training.losses.cut import lowest_kept
from training.losses.judgments import Judgments, Loss
from training.losses.pairwise import pairwise_logistic

STAGE_WEIGHTS = {2: (1.0, 1.0), 3: (1.0, 2.0, 4.0)}
"""What a stage's score counts in the ensemble, by the number of stages: those of the public code,
which lifts later stages in the longer cascade only."""


class EnsembleOrder(nn.Module):
    """Pairwise logistic loss of the ensemble score of the cascade.

    With `I_t = sigmoid((x_t - kappa_t) / sigma)`, kappa_t the keep-th largest score of stage t,
    a candidate's score is that of the stage that drops it, or of the last one:
    `g = sum_{t<T} c_t (prod_{u<t} I_u) (1 - I_t) x_t + c_T (prod_u I_u) x_T`.
    The loss of a request with n candidates is `1/n^2 sum log(1 + exp(g_j - g_i))` over the pairs
    with `grade_i > grade_j`; sigma is the configuration's tau, 1e-3 as published.

    Source: Gallagher et al., Joint Optimization of Cascade Ranking Models, WSDM 2019, as the
    authors of LCRON (arXiv 2503.09492) code it. Where this deviates from their code:
    - Padding is left out of pairs and cuts (there it takes part).
    - Pairs with equal grades do not count. There each such pair is trained to rank the later slot
      above the earlier one.
    - Every stage is cut at what it keeps. There the last stage has the cut of the one before it.
    - A stage that keeps all candidates of a request has `I = 1`.
    - The gradient of kappa is shared by all candidates tied with it.
    """

    def __init__(self, keeps: Sequence[int], sigma: float) -> None:
        """Make the loss of two or three stages that keep `keeps`."""
        super().__init__()
        self.keeps, self.sigma = tuple(keeps), sigma

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        assert judgments.weights_B is not None
        valid_BN = judgments.valid_BN
        above_BN = judgments.grades_BN.masked_fill(~valid_BN, -torch.inf).unsqueeze(2)
        below_BN = judgments.grades_BN.masked_fill(~valid_BN, torch.inf).unsqueeze(1)
        ensemble_BN = self._ensemble(stage_scores, valid_BN)

        def weigh(chunk: slice) -> Tensor:
            return (above_BN[chunk] > below_BN[chunk]).to(ensemble_BN.dtype)

        members_B = valid_BN.sum(1)
        losses_B = pairwise_logistic(ensemble_BN, weigh) / members_B.clamp(min=1) ** 2
        loss = request_mean(losses_B, members_B > 0, judgments.weights_B)
        return Loss(loss, {"joint": loss})

    def _ensemble(self, stage_scores: Sequence[Tensor], valid_BN: Tensor) -> Tensor:
        """Ensemble score g [B, N]."""
        last = len(stage_scores) - 1
        weights = STAGE_WEIGHTS[len(stage_scores)]
        ensemble_BN, survives_BN = (
            torch.zeros_like(stage_scores[0]),
            torch.ones_like(stage_scores[0]),
        )
        for stage, (scores_BN, keep) in enumerate(zip(stage_scores, self.keeps, strict=True)):
            kept_BN = _kept(scores_BN, keep, valid_BN, self.sigma)
            ends_BN = kept_BN if stage == last else 1 - kept_BN
            ensemble_BN = ensemble_BN + weights[stage] * survives_BN * ends_BN * scores_BN
            survives_BN = survives_BN * kept_BN
        return ensemble_BN.masked_fill(~valid_BN, 0.0)


def _kept(scores_BN: Tensor, keep: int, valid_BN: Tensor, sigma: float) -> Tensor:
    """Soft indicator of being kept [B, N], 1 where everybody is."""
    everyone_B1 = valid_BN.sum(1, keepdim=True) <= keep
    cut_B1 = lowest_kept(scores_BN, keep, valid_BN)
    tied_BN = valid_BN & (scores_BN == cut_B1)
    tied_scores_BN = scores_BN.masked_fill(~tied_BN, 0.0)
    kappa_B1 = tied_scores_BN.sum(1, keepdim=True) / tied_BN.sum(1, keepdim=True).clamp(min=1)
    return ((scores_BN - kappa_B1) / sigma).sigmoid().masked_fill(everyone_B1, 1.0)
