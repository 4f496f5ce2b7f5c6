"""Arguments every operator takes, checked once, with errors that name value, rule and remedy."""

import math

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


def check_tau(tau: float) -> None:
    """Require a finite temperature above zero.

    Raises:
        ValueError: it is zero, negative, infinite or NaN.
    """
    if not (tau > 0 and math.isfinite(tau)):
        raise ValueError(f"tau == {tau} must be finite and above 0; use hard_topk for tau -> 0")


def check_mask(mask: Tensor | None, scores: Tensor) -> None:
    """Require no mask or a bool mask of the scores' shape.

    Raises:
        ValueError: another type or shape.
    """
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"mask of {mask.dtype} must be torch.bool; pass mask.bool()")
    if mask.shape != scores.shape:
        raise ValueError(
            f"mask of shape {list(mask.shape)} must have the scores' shape {list(scores.shape)}; "
            "pass mask.expand_as(scores)"
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
