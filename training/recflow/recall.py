"""Joint recall of a training batch: what the cascade would have found of the truth.

Legend: B requests, N candidates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.losses.judgments import Judgments


def joint_recall(
    scores: Sequence[Tensor], keeps: Sequence[int], judgments: Judgments
) -> float | None:
    """Share of the truth that is left after the last stage, mean over the requests that have one.

    Args:
        scores: [B, N] of each stage, retrieval first.
        keeps: candidates each stage passes on.
        judgments: about the same.

    Returns:
        In [0, 1]; None where no request has a truth.
    """
    alive_BN = judgments.valid_BN
    for scores_BN, keep in zip(scores, keeps, strict=True):
        left_BN = scores_BN.detach().masked_fill(~alive_BN, -torch.inf)
        top_BK = left_BN.topk(min(keep, left_BN.shape[1]), dim=1, sorted=False).indices
        alive_BN = torch.zeros_like(alive_BN).scatter(1, top_BK, value=True) & alive_BN
    truth_B = judgments.relevant_BN.sum(1)
    found_B = (alive_BN & judgments.relevant_BN).sum(1)
    known_B = truth_B > 0
    return float((found_B / truth_B)[known_B].mean()) if known_B.any() else None
