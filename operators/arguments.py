"""Arguments of operators and losses, checked with errors that name value, rule and remedy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def check_scores(scores: Tensor) -> None:
    """Require floating-point scores of shape [..., N].

    Raises:
        ValueError: the scores have no dimension or are not floating point.
    """
    if scores.dim() == 0:
        raise ValueError("scores has no dimension and must be [..., N]; pass scores.reshape(1)")
    if not scores.is_floating_point():
        raise ValueError(f"scores of {scores.dtype} must be floating point; pass scores.float()")


def check_number(tau: float) -> None:
    """Require a temperature that is a number, which a mask in its place is not.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(tau, int | float):
        kind = f"shape {list(tau.shape)}" if isinstance(tau, Tensor) else repr(tau)
        raise ValueError(f"tau of {kind} must be a number; pass a mask as mask=...")


def check_tau(tau: float) -> None:
    """Require a finite temperature above zero.

    Raises:
        ValueError: it is no number, or zero, negative, infinite or NaN.
    """
    check_number(tau)
    if not 0 < tau < math.inf:
        raise ValueError(f"tau == {tau} must be finite and above 0; use hard_topk for tau -> 0")


def check_mask(mask: Tensor | None, scores: Tensor, name: str = "mask") -> None:
    """Require no mask or a bool mask of the scores' shape; `name` is what the caller calls it.

    Raises:
        ValueError: another type or shape.
    """
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} of {mask.dtype} must be torch.bool; pass {name}.bool()")
    if mask.shape != scores.shape:
        raise ValueError(
            f"{name} of shape {list(mask.shape)} must have the scores' shape {list(scores.shape)}; "
            f"pass {name}.expand_as(scores)"
        )


def check_k(k: int | Tensor, scores: Tensor) -> None:
    """Require a whole number, or an integer tensor that broadcasts to the rows of the scores.

    Raises:
        ValueError: a bool or a fraction, or a shape that does not broadcast.
    """
    if not isinstance(k, Tensor):
        if isinstance(k, bool) or not isinstance(k, int):
            raise ValueError(f"k == {k!r} must be an int or an integer tensor; pass int(k)")
        return
    if k.is_floating_point() or k.is_complex() or k.dtype == torch.bool:
        raise ValueError(f"k of {k.dtype} must be of an integer type; pass k.long()")
    rows = scores.shape[:-1]
    fits = k.dim() <= len(rows) and all(
        size in (1, row) for size, row in zip(reversed(k.shape), reversed(rows), strict=False)
    )
    if not fits:
        raise ValueError(
            f"k of shape {list(k.shape)} must broadcast to the {list(rows)} rows of scores "
            f"{list(scores.shape)}; pass one k a row, or an int"
        )


def check_stages(stages: Sequence[Tensor], labels: Tensor) -> None:
    """Require floating-point scores or logits of at least one stage, all of the labels' shape.

    Raises:
        ValueError: there is none, or one of another type or shape.
    """
    if not stages:
        raise ValueError("0 stages given and there must be at least 1; pass [scores] for one")
    for stage, scores in enumerate(stages):
        check_scores(scores)
        if scores.shape != labels.shape:
            raise ValueError(
                f"scores of shape {list(scores.shape)} in stage {stage} must have the labels' "
                f"shape {list(labels.shape)}; score the same candidates in every stage"
            )


def check_length(name: str, values: Sequence[object], stages: int) -> None:
    """Require one value a stage.

    Raises:
        ValueError: there are more or fewer.
    """
    if len(values) != stages:
        raise ValueError(
            f"{name} has {len(values)} entries and must have one for each of {stages} stages"
        )


def check_weights(weights: Tensor | None, labels: Tensor) -> None:
    """Require no weights or one a row of the labels.

    Raises:
        ValueError: another shape.
    """
    rows = list(labels.shape[:-1])
    if weights is not None and list(weights.shape) != rows:
        raise ValueError(
            f"weights of shape {list(weights.shape)} must be {rows}, one a row; "
            "reduce or expand them"
        )


def check_labels(labels: Tensor, counted: Tensor) -> None:
    """Require labels in [0, 1] where they count.

    Bool labels need no look. Others cost the device a wait, so compiled code does without; inside
    `torch.func` transforms the numbers behind the wrapper are looked at.

    Raises:
        ValueError: a label is complex, or one that counts is out of range or NaN.
    """
    if labels.is_complex():
        raise ValueError(f"labels of {labels.dtype} must be bool or real; pass labels.real")
    if labels.dtype == torch.bool or torch.compiler.is_compiling():
        return
    ruled_out = (counted & ~((labels >= 0) & (labels <= 1))).detach()
    if bool(torch.func.debug_unwrap(ruled_out).any()):
        wrong = torch.func.debug_unwrap(labels.detach().masked_fill(~ruled_out, 0.5))
        value = wrong.flatten()[(wrong - 0.5).abs().nan_to_num(torch.inf).argmax()].item()
        raise ValueError(f"labels hold {value:g} and must be in [0, 1]; pass labels > 0 or rescale")
