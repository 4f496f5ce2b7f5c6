"""Losses that train stages through their top-k: survival of one stage, or of a whole cascade.

Legend: B requests, N candidates, T stages.

An entry survives stage t with probability p_t = sigmoid(a_t), where a_t is the operator's logit,
and the cascade with P = p_1 * ... * p_T. Nothing is ever computed as 1 - P: log(1 - P) follows from
log(1 - P_t) = logaddexp(log(1 - p_t), log p_t + log(1 - P_(t-1))), and the gradient from logarithms
that are at most 0. Values and gradients therefore stay right where a sigmoid saturates.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from operators import logits_operator


def topk_cross_entropy(
    scores_BN: Tensor,
    labels_BN: Tensor,
    k_B: int | Tensor,
    operator: str = "dftopk",
    tau: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between one stage's soft top-k membership and the labels.

    Args:
        scores_BN: floating point [B, N].
        labels_BN: bool [B, N], True where the entry belongs to the top k.
        k_B: how many the stage passes on, an int or an integer tensor [B].
        operator: name of a differentiable top-k.
        tau: its temperature.
        mask: bool [B, N], True where an entry is valid.
        weights: floating point [B], at least 0: what an entry of each row weighs; 1 if left out.

    Returns:
        Scalar: weighted mean over the valid entries of rows with 0 < k < valid entries; 0 if there
        are none.

    Raises:
        ValueError: an argument of a wrong type, shape or range.
    """
    return joint_cross_entropy([scores_BN], labels_BN, [k_B], operator, tau, mask, weights=weights)


def joint_cross_entropy(
    stage_scores: Sequence[Tensor],
    labels_BN: Tensor,
    ks: Sequence[int | Tensor],
    operator: str = "dftopk",
    tau: float = 1.0,
    masks: Sequence[Tensor | None] | Tensor | None = None,
    passes: Sequence[Tensor | None] = (),
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between survival through all stages and the labels.

    A stage decides an entry's fate where its row has 0 < k < valid entries. A row whose k reaches
    its valid entries passes them all: the stage's factor is 1. An entry counts if at least one
    stage decides it, and every other stage passes it; so a row with k <= 0 anywhere, and an entry
    that is invalid in a stage it does not bypass, are left out.

    Args:
        stage_scores: floating point [B, N] for each of T stages.
        labels_BN: bool [B, N], True where the entry should survive.
        ks: how many each stage passes on, ints or integer tensors [B].
        operator: name of a differentiable top-k.
        tau: its temperature.
        masks: bool [B, N], True where an entry competes in a stage: one for all, or one a stage.
        passes: nothing, or for each stage None or a bool [B, N] of the entries that bypass it: the
            stage's factor is 1 for them, whether or not they compete in it.
        weights: floating point [B], at least 0: what an entry of each row weighs; 1 if left out.

    Returns:
        Scalar: weighted mean over the entries that count; 0 if there are none.

    Raises:
        ValueError: an argument of a wrong type, shape, length or range.
    """
    _check_labels(stage_scores, labels_BN)
    if masks is None or isinstance(masks, Tensor):
        masks = [masks] * len(stage_scores)
    passes = passes or [None] * len(stage_scores)
    _check_lengths(len(stage_scores), ks=ks, masks=masks, passes=passes)
    logits_of = logits_operator(operator)
    logits, opens = [], []
    counted = torch.ones_like(labels_BN)
    for scores, k, mask, bypass in zip(stage_scores, ks, masks, passes, strict=True):
        wide = scores if scores.dtype == torch.float64 else scores.float()
        logits.append(logits_of(wide, k, tau, mask))
        open_BN, passed_BN = _fate(scores, k, mask, bypass)
        opens.append(open_BN)
        counted &= open_BN | passed_BN
    return survival_cross_entropy(logits, labels_BN, opens, counted, weights)


def survival_cross_entropy(
    stage_logits: Sequence[Tensor],
    labels_BN: Tensor,
    decides: Sequence[Tensor],
    counted_BN: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between survival through all stages and the labels, from logits of survival.

    For stages whose thresholds come from elsewhere than the scored entries, such as a cut through
    the whole catalogue. `joint_cross_entropy` is this over the operator's logits.

    Args:
        stage_logits: float [B, N] for each of T stages.
        labels_BN: bool [B, N], True where the entry should survive.
        decides: bool [B, N] for each stage, True where it decides; elsewhere its factor is 1.
        counted_BN: bool [B, N], True where an entry counts; one that no stage decides never does.
        weights: floating point [B], at least 0: what an entry of each row weighs; 1 if left out.

    Returns:
        Scalar: weighted mean over the entries that count; 0 if there are none.

    Raises:
        ValueError: the weights have another shape.
    """
    if weights is not None and weights.shape != labels_BN.shape[:1]:
        raise ValueError(
            f"weights of shape {list(weights.shape)} must be [{len(labels_BN)}], one a row"
        )
    counted = counted_BN & torch.stack(list(decides)).any(0)
    nll: Tensor = _SurvivalCrossEntropy.apply(labels_BN, *stage_logits, *decides)  # type: ignore[no-untyped-call]
    row_B1 = 1.0 if weights is None else weights.unsqueeze(1)
    weight = counted.to(nll.dtype) * row_B1
    total = weight.sum()
    return (torch.where(counted, nll, 0.0) * weight).sum() / torch.where(total > 0, total, 1.0)


def _check_labels(stage_scores: Sequence[Tensor], labels: Tensor) -> None:
    if not stage_scores:
        raise ValueError("stage_scores is empty and must hold the scores of at least one stage")
    if labels.dtype != torch.bool:
        raise ValueError(f"labels of {labels.dtype} must be torch.bool; pass labels > 0")
    for stage, scores in enumerate(stage_scores):
        if scores.dim() != 2 or scores.shape != labels.shape:
            raise ValueError(
                f"scores of shape {list(scores.shape)} in stage {stage} must be [B, N] like the "
                f"labels {list(labels.shape)}; score the same candidates in every stage"
            )


def _check_lengths(stages: int, **arguments: Sequence[object]) -> None:
    for name, values in arguments.items():
        if len(values) != stages:
            raise ValueError(
                f"{name} has {len(values)} entries and must have one for each of {stages} stages"
            )


def _fate(
    scores: Tensor, k: int | Tensor, mask: Tensor | None, bypass: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Where a stage decides, and where it passes an entry whatever the scores are: bool [B, N]."""
    valid = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    k_B1 = torch.as_tensor(k, device=scores.device).unsqueeze(-1)
    full_B1 = k_B1 >= valid.sum(-1, keepdim=True)
    passed = valid & full_B1 & (k_B1 > 0)
    decides = valid & ~full_B1 & (k_B1 > 0)
    if bypass is None:
        return decides, passed
    if bypass.dtype != torch.bool or bypass.shape != scores.shape:
        raise ValueError(
            f"passes of {bypass.dtype} and shape {list(bypass.shape)} must be torch.bool of the "
            f"scores' shape {list(scores.shape)}, or None"
        )
    return decides & ~bypass, passed | bypass


def _log_survival(logits: Sequence[Tensor], opens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The logs of P and of 1 - P of every entry over the stages that are open to it."""
    log_p = torch.where(opens[0], logsigmoid(logits[0]), 0.0)
    log_q = torch.where(opens[0], logsigmoid(-logits[0]), 0.0)
    started = opens[0]
    for a, is_open in zip(logits[1:], opens[1:], strict=True):
        log_p = log_p + torch.where(is_open, logsigmoid(a), 0.0)
        first = logsigmoid(-a)
        later = torch.logaddexp(first, logsigmoid(a) + log_q)
        log_q = torch.where(is_open, torch.where(started, later, first), log_q)
        started = started | is_open
    return log_p, log_q


class _SurvivalCrossEntropy(torch.autograd.Function):
    """-log P where the label is True, else -log(1 - P), with the gradient in closed form.

    d/da_i is -sigmoid(-a_i) for a True label and sigmoid(-a_i) P / (1 - P) for a False one.
    Differentiating the recursion instead would subtract nearly equal numbers, and leave noise of
    1e-8 on entries whose gradient is 0: enough for Adam to move them.
    """

    @staticmethod
    def forward(ctx: Any, labels: Tensor, *stages: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(labels, *stages)
        log_p, log_q = _log_survival(stages[: len(stages) // 2], stages[len(stages) // 2 :])
        return -torch.where(labels, log_p, log_q)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        labels, *stages = ctx.saved_tensors
        logits, opens = stages[: len(stages) // 2], stages[len(stages) // 2 :]
        log_p, log_q = _log_survival(logits, opens)
        log_odds = log_p - log_q
        grad_logits = []
        for a, is_open in zip(logits, opens, strict=True):
            slope = torch.where(labels, -torch.sigmoid(-a), (logsigmoid(-a) + log_odds).exp())
            grad_logits.append(grads[0] * torch.where(is_open, slope, 0.0))
        return None, *grad_logits, *(None for _ in opens)
