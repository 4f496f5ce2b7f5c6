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
    """Weighted mean over the entries that the scores decide."""
    result = Expected(0.0, np.zeros(scores.shape), np.zeros(scores.shape))
    loss = total = 0.0
    for b in range(len(scores)):
        if not 0 < ks[b] < valid[b].sum():
            continue
        if np.isnan(scores[b, valid[b]]).any():
            loss = result.gradient[b, valid[b]] = np.nan
            total += weights[b] * (valid[b] & ~np.isinf(scores[b])).sum()
            continue
        places = ks[b] - (valid[b] & (scores[b] == np.inf)).sum()
        competes = valid[b] & np.isfinite(scores[b])
        if 0 < places < competes.sum():
            row = _row(scores[b, competes], labels[b, competes], places, tau)
            loss += weights[b] * row.loss
            result.gradient[b, competes] = weights[b] * row.gradient
            result.scale[b, competes] = weights[b] * row.scale
            total += weights[b] * competes.sum()
    total = total or 1.0
    return Expected(loss / total, result.gradient / total, result.scale / total)


def _row(x: Float64, label: Bool, k: int, tau: float) -> Expected:
    falling = -np.sort(-x)
    boundaries = falling[k - 1], falling[k]
    s = np.where(label, -1, 1) * np.clip((x - sum(boundaries) / 2) / tau, -1e30, 1e30)
    loss = np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s)))
    sigmoid = np.where(s >= 0, 1, np.exp(-np.abs(s))) / (1 + np.exp(-np.abs(s)))
    slope = np.where(label, -1, 1) * sigmoid / tau
    gradient = slope.copy()
    scale = np.abs(slope) * (1 + np.minimum(np.abs(s), 200))  # of exp(s), that of s is absolute
    for boundary in boundaries:
        tied = x == boundary
        gradient[tied] -= slope.sum() / 2 / tied.sum()
        scale[tied] += np.abs(slope).sum() / 2 / tied.sum()
    return Expected(float(loss.sum()), gradient, scale)
