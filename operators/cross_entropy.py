"""Losses through a top-k: membership of one stage's cut, or survival of a whole cascade.

Legend: ... any leading dimensions ("rows"), N candidates, T stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from operators.arguments import (
    check_k,
    check_length,
    check_mask,
    check_stages,
    check_tau,
    check_weights,
)
from operators.kernels import cross_entropy as in_one_go
from operators.kernels import joint_cross_entropy as all_in_one_go
from operators.ranking import rank
from operators.registry import logits_operator
from operators.survival import survival_cross_entropy


def topk_cross_entropy(
    scores: Tensor,
    labels: Tensor,
    k: int | Tensor,
    operator: str = "dftopk",
    tau: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between the soft top-k membership of every candidate and the labels.

    Args:
        scores: floating point [..., N].
        labels: [..., N], bool or numbers in [0, 1]: how much an entry belongs to the top k.
        k: how many to select, an int or an integer tensor that broadcasts to the rows [...].
        operator: name of a differentiable top-k.
        tau: its temperature, above 0, in the unit of the scores.
        mask: bool [..., N], True where an entry is valid; all are if it is left out.
        weights: floating point [...], at least 0: what an entry of each row weighs; 1 if left out.

    Returns:
        Scalar, float64 if the scores are and float32 otherwise: weighted mean over the entries
        whose fate the scores decide, see `joint_cross_entropy`; 0 if there are none.

    Raises:
        ValueError: an argument of a wrong type, shape or range.

    >>> scores, labels = torch.tensor([4.0, 2.0, 0.0]), torch.tensor([True, False, False])
    >>> topk_cross_entropy(scores, labels, k=1)
    tensor(0.2250)
    """
    if operator == "dftopk" and in_one_go.applies(scores, labels, k, mask, weights):
        check_stages([scores], labels)
        check_k(k, scores)
        check_tau(tau)
        check_mask(mask, scores)
        check_weights(weights, labels)
        return in_one_go.cross_entropy(scores, labels, k, tau, mask, weights, _one_stage)
    return joint_cross_entropy([scores], labels, [k], operator, tau, mask, weights=weights)


def _one_stage(
    scores: Tensor,
    labels: Tensor,
    k: int | Tensor,
    tau: float,
    mask: Tensor | None,
    weights: Tensor | None,
) -> Tensor:
    return _stage_by_stage([scores], labels, [k], "dftopk", tau, [mask], [None], weights)


def joint_cross_entropy(
    stage_scores: Sequence[Tensor],
    labels: Tensor,
    ks: Sequence[int | Tensor],
    operator: str = "dftopk",
    tau: float = 1.0,
    mask: Tensor | Sequence[Tensor | None] | None = None,
    passes: Sequence[Tensor | None] = (),
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between survival through all stages and the labels.

    A stage decides an entry's fate where the scores can change it. It passes, with a factor of 1,
    the entries of a row whose k reaches its valid entries, those at +inf, and the finite ones for
    which all have a place. It drops the entries of a row with k <= 0, those at -inf, and the finite
    ones whose places are taken by others at +inf. An entry counts if at least one stage decides it
    and every other one passes it; so one that is dropped, or that is invalid in a stage it does not
    bypass, is left out. A NaN in a row that is not passed or dropped as a whole makes the loss NaN.

    Args:
        stage_scores: floating point [..., N] for each of T stages.
        labels: [..., N], bool or numbers in [0, 1]: the probability that the entry should survive.
            What is left out may have any label.
        ks: how many each stage passes on, ints or integer tensors that broadcast to the rows [...].
        operator: name of a differentiable top-k.
        tau: its temperature, above 0, in the unit of the scores.
        mask: bool [..., N], True where an entry competes in a stage: one for all, or one a stage.
        passes: nothing, or for each stage None or a bool [..., N] of the entries that bypass it:
            the stage's factor is 1 for them, whether or not they compete in it.
        weights: floating point [...], at least 0: what an entry of each row weighs; 1 if left out.

    Returns:
        Scalar: weighted mean over the entries that count; 0 if there are none.

    Raises:
        ValueError: an argument of a wrong type, shape, length or range.
    """
    check_stages(stage_scores, labels)
    stages = len(stage_scores)
    passes = passes or [None] * stages
    masks = [mask] * stages if mask is None or isinstance(mask, Tensor) else mask
    for name, values in (("ks", ks), ("mask", masks), ("passes", passes)):
        check_length(name, values, stages)
    if (
        operator == "dftopk"
        and all(bypass is None for bypass in passes)
        and all_in_one_go.applies(stage_scores, labels, ks, tau, mask, weights)
    ):
        for scores, k in zip(stage_scores, ks, strict=True):
            check_k(k, scores)
        check_tau(tau)
        check_mask(masks[0], labels)
        check_weights(weights, labels)

        def twin(leaves: Sequence[Tensor]) -> Tensor:
            return _stage_by_stage(leaves, labels, ks, operator, tau, masks, passes, weights)

        return all_in_one_go.cross_entropy(stage_scores, labels, ks, tau, masks[0], weights, twin)
    return _stage_by_stage(stage_scores, labels, ks, operator, tau, masks, passes, weights)


def _stage_by_stage(
    stage_scores: Sequence[Tensor],
    labels: Tensor,
    ks: Sequence[int | Tensor],
    operator: str,
    tau: float,
    masks: Sequence[Tensor | None],
    passes: Sequence[Tensor | None],
    weights: Tensor | None,
) -> Tensor:
    """`joint_cross_entropy` in differentiable torch operations."""
    logits_of = logits_operator(operator)
    logits, decides = [], []
    counted = torch.ones_like(labels, dtype=torch.bool)
    for scores, k, valid, bypass in zip(stage_scores, ks, masks, passes, strict=True):
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        logits.append(logits_of(wide, k, tau, valid))
        decided, passed = _fate(wide, k, valid, bypass)
        decides.append(decided)
        counted = counted & (decided | passed)
    return survival_cross_entropy(logits, labels, decides, counted, weights)


def _fate(
    scores: Tensor, k: int | Tensor, mask: Tensor | None, bypass: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Where a stage decides, and where it passes an entry whatever its score: bool [..., N]."""
    check_mask(bypass, scores, "passes")
    ranking = rank(scores, k, mask)
    valid = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    certainly_in = valid & (ranking.ranked == torch.inf)
    finite = valid & ~ranking.ranked.isinf()
    places = ranking.k - certainly_in.sum(-1, keepdim=True)
    fits = (ranking.k > 0) & (places >= finite.sum(-1, keepdim=True))
    # A row with NaN has no places to speak of: let it reach the loss.
    poisoned = ranking.ranked.isnan().any(-1, keepdim=True)
    decides = finite & ~ranking.decided & (poisoned | ((places > 0) & ~fits))
    everyone = ranking.decided & (ranking.k > 0)
    passed = valid & (everyone | certainly_in | (finite & fits)) & (ranking.k > 0)
    if bypass is None:
        return decides, passed
    return decides & ~bypass, passed | bypass
