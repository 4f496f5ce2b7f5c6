"""FS-LTR: every stage learns to order the candidates by how far they came in the whole cascade.

Legend: B requests, N candidates, b requests of a chunk, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.losses.average import request_mean
from training.losses.judgments import Judgments, Loss
from training.losses.pairwise import pairwise_logistic

TOP = 30
"""Places of which at least one is to be among the two that a pair of FS-LambdaLoss takes."""
SMOOTH = 0.8
"""Share of the LambdaRank weight in FS-LambdaLoss; the rest is LambdaLoss's."""


class FullStageRankNet(nn.Module):
    """`sum_d mean log(1 + exp(x_j - x_i))`, over the pairs with depth_i = d > depth_j, per stage.

    Each depth has the same weight whatever its number of pairs, and candidates of one depth are
    not compared. A sampled negative is below every candidate that was logged.

    Source: Zheng et al., Full Stage Learning to Rank, WWW 2024, with RankNet's loss, as the authors
    of LCRON (arXiv 2503.09492) code it. They mask the upper candidate of a pair only, and with
    three stages none; here a pair is of two valid ones and the mean is over these. A pair has its
    request's weight.
    """

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        share_BN, depth_BN = _level_shares(judgments)
        below_BN = depth_BN.masked_fill(~judgments.valid_BN, torch.iinfo(depth_BN.dtype).max)

        def weigh(chunk: slice) -> Tensor:
            lower = depth_BN[chunk].unsqueeze(2) > below_BN[chunk].unsqueeze(1)
            return lower * share_BN[chunk].unsqueeze(2)

        return _over_stages([pairwise_logistic(x_BN, weigh).sum() for x_BN in stage_scores])


def _level_shares(judgments: Judgments) -> tuple[Tensor, Tensor]:
    """What each pair weighs whose upper candidate this is, [B, N]; and the depths."""
    assert judgments.weights_B is not None
    depth_BN, valid_BN = judgments.depth_BN, judgments.valid_BN
    weights_BN = judgments.weights_B.unsqueeze(1) * valid_BN
    share_BN = torch.zeros_like(weights_BN)
    for level in range(1, int(depth_BN.max()) + 1 if depth_BN.numel() else 0):
        lower_B1 = (valid_BN & (depth_BN < level)).sum(1, keepdim=True)
        level_BN = (depth_BN == level) * weights_BN
        total = (level_BN * lower_B1).sum()
        share_BN = share_BN + level_BN / torch.where(total > 0, total, 1.0)
    return share_BN, depth_BN


class FullStageLambdaLoss(nn.Module):
    """`mean_b 2 sum_ij delta_ij |G_i - G_j| log(1 + exp(x_j - x_i))`, grade_i > grade_j, per stage.

    `G = grade / ideal DCG` with the grade itself as gain and the discount `D(r) = 1 / ln(r + 1)` of
    place r. With the places r by score, `delta_ij = (1 - s) |D(|r_i - r_j|) - D(|r_i - r_j| + 1)| +
    s |D'(r_i) - D'(r_j)|`; the first term is only for pairs with a place up to `TOP`, and D' is 0
    beyond it. Places carry no gradient, so delta does not either. s is `SMOOTH`.

    Source: Zheng et al., Full Stage Learning to Rank, WWW 2024, with Wang et al., The LambdaLoss
    Framework, CIKM 2018, as the authors of LCRON (arXiv 2503.09492) code and call it (their
    function's own defaults, places up to 20 and s = 1, are not those of their runs). The factor 2
    is theirs: they count a pair in both directions. They ignore the masks; here padding has no
    place. Candidates with tied scores take places in the order of their slots.
    """

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        assert judgments.weights_B is not None
        gains_BN = _gains(judgments.grades_BN)
        floor_BN = gains_BN.masked_fill(~judgments.valid_BN, torch.inf)
        delta_NN = _discounts(gains_BN)
        counted_B = judgments.valid_BN.any(1)
        losses = []
        for scores_BN in stage_scores:
            ranked_BN = scores_BN.detach().masked_fill(~judgments.valid_BN, -torch.inf)
            order_BN = ranked_BN.sort(dim=1, descending=True, stable=True).indices
            # By place, delta is one matrix for all requests.
            upper_BN, lower_BN = gains_BN.gather(1, order_BN), floor_BN.gather(1, order_BN)

            def weigh(chunk: slice, upper: Tensor = upper_BN, lower: Tensor = lower_BN) -> Tensor:
                return (upper[chunk].unsqueeze(2) - lower[chunk].unsqueeze(1)).relu_() * delta_NN

            sums_B = 2 * pairwise_logistic(scores_BN.gather(1, order_BN), weigh)
            losses.append(request_mean(sums_B, counted_B, judgments.weights_B))
        return _over_stages(losses)


def _gains(grades_BN: Tensor) -> Tensor:
    """Grades over the ideal DCG [B, N]; 0 where all grades are."""
    places_N = torch.arange(1, grades_BN.shape[1] + 1, device=grades_BN.device)
    discounts_N = 1 / (places_N + 1).to(grades_BN.dtype).log()
    ideal_B1 = (grades_BN.sort(1, descending=True).values * discounts_N).sum(1, keepdim=True)
    return grades_BN / torch.where(ideal_B1 > 0, ideal_B1, 1.0)


def _discounts(like_BN: Tensor) -> Tensor:
    """Delta [N, N] of the candidates at two places."""
    places_N = torch.arange(1, like_BN.shape[1] + 1, device=like_BN.device)
    discount_N = 1 / (places_N + 1).to(like_BN.dtype).log()
    top_N = places_N <= TOP
    lambda_N = discount_N * top_N
    apart_NN = (places_N.unsqueeze(1) - places_N).abs()
    steps_NN = torch.nn.functional.pad(discount_N[:-1] - discount_N[1:], (1, 0))[apart_NN]
    counted_NN = top_N.unsqueeze(1) | top_N
    difference_NN = (lambda_N.unsqueeze(1) - lambda_N).abs()
    return (1 - SMOOTH) * steps_NN * counted_NN + SMOOTH * difference_NN


def _over_stages(losses: Sequence[Tensor]) -> Loss:
    return Loss(
        torch.stack(list(losses)).sum(), {f"stage_{t}": loss for t, loss in enumerate(losses)}
    )
