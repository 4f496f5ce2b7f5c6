"""ARF: recall at each stage's cut through a relaxed sort, and the whole order beside it.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from operators import UncertaintyWeighting
from training.losses.average import request_mean
from training.losses.chunks import chunks
from training.losses.judgments import Judgments, Loss
from training.losses.places import (
    FLOOR,
    PERMUTATIONS,
    candidate_mean,
    cut_cross_entropy,
    label_permutation,
    shares,
    sums,
)


class AdaptiveRanking(nn.Module):
    """`sum_t relax_t + .5/w_t^2 global_t + ln w_t`, with w_t learned (as ln w_t^2).

    With P the relaxed permutation matrix of a stage's scores, m what the stage keeps, y the truth
    and n the candidates of a request: `global = 1/n^2 sum_ij -log(P_ij + 1e-6) Y_ij`, Y the
    permutation that sorts by grade, and
    - arf: `relax = 1/n sum_j -y_j log(1/m sum_{i<=m} P_ij + 1e-6)`;
    - arf_v2: `relax = 1/n sum_j -y_j log(u_j + 1e-6) - (1 - y_j) log(d_j + 1e-6)`, with u_j the sum
      of column j over the first m rows and d_j over the others, both over the sum of the whole
      column, through which there is no gradient. v2 is LCRON's loss of a single stage, at m.

    Source: Wang et al., Adaptive Neural Ranking Framework, WWW 2024 (arXiv 2310.10462), and for
    arf_v2 LCRON (arXiv 2503.09492); published with NeuralSort and tau 200. Where this deviates from
    the code of LCRON's authors:
    - Padding is in no matrix. There the scores of all slots are sorted, the last rows and columns
      are dropped whichever they belong to, and n is the number of slots.
    - A request counts in `relax` if it has more than m candidates, as there, and in `global` if it
      has any. There it must fill all slots, and one that does not count lowers the mean.
    - Equal grades share their places equally in Y, exactly; there by NeuralSort at tau 1e-4.
    - y is the truth; there the sum of the first rows of Y, which is the same where those grades
      differ.
    """

    def __init__(self, keeps: Sequence[int], sort: str, tau: float, *, normalised: bool) -> None:
        """Make the loss of stages that keep `keeps`: arf, or arf_v2 if `normalised`."""
        super().__init__()
        self.keeps, self.sort, self.tau, self.normalised = tuple(keeps), sort, tau, normalised
        self.weighting = UncertaintyWeighting(len(self.keeps))

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        valid_BN, weights_B = judgments.valid_BN, judgments.weights_B
        assert weights_B is not None
        pieces = [self._chunk(stage_scores, judgments, chunk) for chunk in chunks(*valid_BN.shape)]
        n_B = valid_BN.sum(1)
        parts, orders = {}, []
        for stage, keep in enumerate(self.keeps):
            relax_B, order_B = (
                torch.cat(part) for part in zip(*(piece[stage] for piece in pieces), strict=True)
            )
            parts[f"stage_{stage}"] = request_mean(relax_B, n_B > keep, weights_B)
            orders.append(request_mean(order_B, n_B > 0, weights_B))
        total = torch.stack(list(parts.values())).sum() + self.weighting(orders)
        named = {f"stage_{stage}_global": order for stage, order in enumerate(orders)}
        return Loss(total, parts | named)

    def _chunk(
        self, stage_scores: Sequence[Tensor], judgments: Judgments, chunk: slice
    ) -> list[tuple[Tensor, Tensor]]:
        """For every stage relax and global of the requests of a chunk."""
        truth_BN, valid_BN = judgments.relevant_BN[chunk], judgments.valid_BN[chunk]
        order_BNN = label_permutation(judgments.grades_BN[chunk], valid_BN)
        pairs_B = valid_BN.sum(1).clamp(min=1) ** 2
        losses = []
        for scores_BN, keep in zip(stage_scores, self.keeps, strict=True):
            matrix_BNN = PERMUTATIONS[self.sort](scores_BN[chunk], self.tau, valid_BN)
            cross_B = ((matrix_BNN + FLOOR).log() * order_BNN).sum((1, 2))
            losses.append((self._relax(matrix_BNN, keep, truth_BN, valid_BN), -cross_B / pairs_B))
        return losses

    def _relax(self, matrix_BNN: Tensor, keep: int, truth_BN: Tensor, valid_BN: Tensor) -> Tensor:
        if self.normalised:
            return cut_cross_entropy(shares(matrix_BNN, keep), truth_BN, valid_BN)
        above_BN = sums(matrix_BNN, keep).above / keep
        return candidate_mean(-(above_BN + FLOOR).log().where(truth_BN, 0.0), valid_BN)
