"""DFTopK in plain numpy and float64, row by row: written apart from the code it judges."""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def soft_mask(row: Float64, k: int, tau: float, valid: NDArray[np.bool_] | None = None) -> Float64:
    """Soft membership of one row [N]."""
    mask = np.zeros(len(row))
    members = np.arange(len(row)) if valid is None else np.flatnonzero(valid)
    if k >= len(members):
        mask[members] = 1.0
    elif k > 0:
        falling = -np.sort(-row[members])
        threshold = (falling[k - 1] + falling[k]) / 2
        mask[members] = 1 / (1 + np.exp(-(row[members] - threshold) / tau))
    return mask


def gradient(row: Float64, k: int, tau: float, upstream: Float64) -> Float64:
    """Gradient of `upstream . soft_mask(row)` with ties shared equally, for 0 < k < N."""
    mask = soft_mask(row, k, tau)
    direct = upstream * mask * (1 - mask) / tau
    falling = -np.sort(-row)
    result = direct.copy()
    for boundary in (falling[k - 1], falling[k]):
        tied = row == boundary
        result[tied] -= 0.5 * direct.sum() / tied.sum()
    return result
