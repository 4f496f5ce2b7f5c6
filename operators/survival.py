"""Survival of a cascade: the cross-entropy of its probability, from the logits of its stages.

Legend: ... any leading dimensions ("rows"), N candidates, T stages.

An entry survives stage t with probability p_t = sigmoid(a_t), and the cascade with
P = p_1 * ... * p_T. Nothing is ever computed as 1 - P: log(1 - P) follows from
log(1 - P_t) = logaddexp(log(1 - p_t), log p_t + log(1 - P_(t-1))), and the gradient from logarithms
that are at most 0. Values and gradients therefore stay right where a sigmoid saturates; a gradient
is as exact as the largest logit is (1e-3 for float32 logits of 1e4).
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from operators.arguments import (
    check_labels,
    check_length,
    check_mask,
    check_stages,
    check_weights,
)

_LARGEST = 1e30
"""Logits are cut here: finite scores over a small tau may overflow, and sums must not."""


def survival_cross_entropy(
    stage_logits: Sequence[Tensor],
    labels: Tensor,
    decides: Sequence[Tensor],
    counted: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between survival through all stages and the labels, from logits of survival.

    For stages whose thresholds come from elsewhere than the scored entries, such as a cut through
    the whole catalogue. `joint_cross_entropy` is this over the operator's logits.

    Args:
        stage_logits: floating point [..., N] for each of T stages.
        labels: [..., N], bool or numbers in [0, 1]: the probability that the entry should survive.
        decides: bool [..., N] for each stage, True where it decides; elsewhere its factor is 1.
        counted: bool [..., N], True where an entry counts; one that no stage decides never does.
        weights: floating point [...], at least 0: what an entry of each row weighs; 1 if left out.

    Returns:
        Scalar: weighted mean over the entries that count; 0 if there are none.

    Raises:
        ValueError: labels out of range where they count, or another type or shape.
    """
    check_stages(stage_logits, labels)
    check_length("decides", decides, len(stage_logits))
    for name, entries in (("counted", counted), *(("decides", decided) for decided in decides)):
        check_mask(entries, labels, name)
    check_weights(weights, labels)
    counted = counted & reduce(torch.logical_or, decides)
    check_labels(labels, counted)
    dtype = reduce(torch.promote_types, (a.dtype for a in stage_logits), torch.float32)
    if labels.dtype != torch.bool:
        labels = labels.to(dtype).masked_fill(~counted, 0.0)
    logits = torch.stack([a.to(dtype) for a in stage_logits])
    nll: Tensor = _SurvivalCrossEntropy.apply(labels, logits, torch.stack(list(decides)))  # type: ignore[no-untyped-call]
    weight = counted.to(dtype)
    if weights is not None:
        weight = weight * weights.unsqueeze(-1)
    total = weight.sum()
    return (torch.where(counted, nll, 0.0) * weight).sum() / torch.where(total > 0, total, 1.0)


class _SurvivalCrossEntropy(torch.autograd.Function):
    """-(y log P + (1 - y) log(1 - P)) of labels [..., N], logits and decisions [T, ..., N].

    The gradient is in closed form: d/da_i = -y sigmoid(-a_i) + (1 - y) sigmoid(-a_i) P / (1 - P).
    Differentiating the recursion instead would subtract nearly equal numbers, and leave noise of
    1e-8 on entries whose gradient is 0: enough for Adam to move them.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(labels: Tensor, logits: Tensor, decides: Tensor) -> Tensor:
        a = _decisive(logits, decides)
        log_p, log_q = _log_survival(logsigmoid(a), logsigmoid(-a), decides)
        return -_blend(labels, log_p, log_q)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:  # noqa: ANN401
        labels, logits, decides = ctx.saved_tensors
        a = _decisive(logits, decides)
        log_lost = logsigmoid(-a)
        log_p, log_q = _log_survival(logsigmoid(a), log_lost, decides)
        log_odds = log_p - log_q
        slope = _blend(labels, -torch.sigmoid(-a), (log_lost + log_odds).exp())
        grad_labels = -grads[0] * log_odds if ctx.needs_input_grad[0] else None
        return grad_labels, grads[0] * torch.where(decides, slope, 0.0), None


def _decisive(logits: Tensor, decides: Tensor) -> Tensor:
    """Logits that are finite or NaN, and 0 where their stage does not decide."""
    return torch.where(decides, logits, 0.0).clamp(-_LARGEST, _LARGEST)


def _blend(labels: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """What a label between no and yes costs; nothing here is infinite."""
    if labels.dtype == torch.bool:
        return torch.where(labels, yes, no)
    return labels * yes + (1 - labels) * no


def _log_survival(kept: Tensor, lost: Tensor, decides: Tensor) -> tuple[Tensor, Tensor]:
    """The logs of P and of 1 - P [..., N], from those of p and 1 - p [T, ..., N]."""
    log_p = torch.where(decides, kept, 0.0)
    log_q = torch.where(decides[0], lost[0], 0.0)
    total, started = log_p[0], decides[0]
    for stage in range(1, len(decides)):
        later = torch.logaddexp(lost[stage], kept[stage] + log_q)
        first = torch.where(started, later, lost[stage])
        log_q = torch.where(decides[stage], first, log_q)
        total = total + log_p[stage]
        started = started | decides[stage]
    return total, log_q
