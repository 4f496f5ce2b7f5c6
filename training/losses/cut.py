"""The hard cut of a stage: the score of the last candidate that it keeps.

Legend: B requests, N candidates.
"""

import torch
from torch import Tensor


def lowest_kept(scores_BN: Tensor, keep: int, entered_BN: Tensor) -> Tensor:
    """Score of the keep-th of the entered candidates, detached; -inf if fewer entered.

    Args:
        scores_BN: floating point [B, N].
        keep: candidates the stage passes on, at least 1.
        entered_BN: bool [B, N], the candidates that reached the stage.

    Returns:
        [B, 1]. Comparing with it keeps all candidates that are tied at the cut.
    """
    ranked_BN = scores_BN.detach().masked_fill(~entered_BN, -torch.inf)
    if keep > ranked_BN.shape[1]:
        return ranked_BN.new_full((len(ranked_BN), 1), -torch.inf)
    return ranked_BN.topk(keep, sorted=True).values[:, -1:]
