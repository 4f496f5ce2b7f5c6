"""LCRON: the cascade as one network, through the relaxed sort of every stage.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from operators import UncertaintyWeighting
from training.losses.average import request_mean
from training.losses.judgments import Judgments, Loss
from training.losses.places import Shares, cut_cross_entropy, relaxed_shares


class OneNetwork(nn.Module):
    """`joint + sum_t .5/w_t^2 single_t + ln w_t`, with w_t learned (as ln w_t^2).

    Let k be the size of the truth y, u_tj the sum of column j of stage t's relaxed permutation
    matrix over the first k rows and d_tj over the others, both over the sum of the whole column,
    through which there is no gradient. Then for the n candidates of a request
    - `single_t = 1/n sum_j -y_j log(u_tj + 1e-6) - (1 - y_j) log(d_tj + 1e-6)`,
    - `joint` is the same of `prod_t u_tj` in place of u and `1 - prod_t (1 - d_tj)` in place of d.

    Source: Wang et al., Learning Cascade Ranking as One Network, ICML 2025 (arXiv 2503.09492),
    published with NeuralSort and tau 50; SoftSort and DiffSort as in DFTopK (arXiv 2510.11472).
    Where this deviates from their code:
    - Padding is in no matrix. There the scores of all slots are sorted, the last rows and columns
      are dropped whichever they belong to, and n is the number of slots.
    - A request counts if it has more than k candidates, in `joint` as well, and only those make up
      the mean. There those with fewer lower it, and count in `joint`.
    - y is the truth; there the first k rows of a soft permutation of the labels. In the code for
      three stages a label that is shared by m candidates weighs m times as much in `single`.
    - DiffSort is the bitonic network with Cauchy comparators. There it is the odd-even one, at tau
      0.1, but every layer compares the scores as they came, so that it does not sort.
    """

    def __init__(self, stages: int, truth: int | None, sort: str, tau: float) -> None:
        """Make the loss of `stages` stages; k is `truth`, or if None the size of each truth."""
        super().__init__()
        self.truth, self.sort, self.tau = truth, sort, tau
        self.weighting = UncertaintyWeighting(stages)

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of prepared scores and judgments."""
        truth_BN, valid_BN = judgments.relevant_BN, judgments.valid_BN
        assert judgments.weights_B is not None
        k_B = truth_BN.sum(1)
        k = k_B if self.truth is None else self.truth
        counted_B = valid_BN.sum(1) > k
        if self.truth is None:
            counted_B &= k_B > 0
        cuts = [relaxed_shares(x, k, self.sort, self.tau, valid_BN) for x in stage_scores]
        above_BN, not_below_BN = cuts[0].above, 1 - cuts[0].below
        for cut in cuts[1:]:
            above_BN, not_below_BN = above_BN * cut.above, not_below_BN * (1 - cut.below)
        *singles, joint = (
            request_mean(
                cut_cross_entropy(cut, truth_BN, valid_BN),
                counted_B,
                judgments.weights_B,
            )
            for cut in (*cuts, Shares(above_BN, 1 - not_below_BN))
        )
        parts = {f"stage_{stage}": single for stage, single in enumerate(singles)}
        return Loss(self.weighting(singles) + joint, parts | {"joint": joint})
