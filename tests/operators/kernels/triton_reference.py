"""What the fused kernel should give, in numpy and float64, row by row, in the order of the text."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


class Expected(NamedTuple):
    """Loss, gradient [B, N], and what the gradient's rounding is relative to [B, N]."""

    loss: float
    gradient: Float64
    scale: Float64


def weighted_loss(
    scores: Float64, labels: Bool, ks: list[int], tau: float, valid: Bool, weights: Float64
) -> Expected:
    """Weighted mean over the valid entries of undecided rows."""
    result = Expected(0.0, np.zeros(scores.shape), np.zeros(scores.shape))
    counted = [b for b in range(len(scores)) if 0 < ks[b] < valid[b].sum()]
    total = sum(weights[b] * valid[b].sum() for b in counted)
    loss = 0.0
    for b in counted if total else []:
        row = _row(scores[b, valid[b]], labels[b, valid[b]], ks[b], tau)
        loss += weights[b] * row.loss / total
        result.gradient[b, valid[b]] = weights[b] * row.gradient / total
        result.scale[b, valid[b]] = weights[b] * row.scale / total
    return result._replace(loss=loss)


def _row(x: Float64, label: Bool, k: int, tau: float) -> Expected:
    if np.isnan(x).any():
        return Expected(np.nan, np.full(len(x), np.nan), np.zeros(len(x)))
    falling = -np.sort(-x)
    boundaries = falling[k - 1], falling[k]
    limit = float(np.finfo(np.float32).max) / 4
    theta = sum(float(np.clip(boundary, -limit, limit)) for boundary in boundaries) / 2
    s = np.where(label, -1, 1) * (x - theta) / tau
    loss = np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s)))
    sigmoid = np.where(s >= 0, 1, np.exp(-np.abs(s))) / (1 + np.exp(-np.abs(s)))
    slope = np.where(label, -1, 1) * sigmoid / tau
    gradient = slope.copy()
    scale = np.abs(slope) * (1 + np.minimum(np.abs(s), 200))  # of exp(s), that of s is absolute
    for boundary in boundaries:
        if np.isfinite(boundary):
            tied = x == boundary
            gradient[tied] -= slope.sum() / 2 / tied.sum()
            scale[tied] += np.abs(slope).sum() / 2 / tied.sum()
    return Expected(float(loss.sum()), gradient, scale)
