"""Intervals of measures over requests whose users are the independent draws.

All are 95 % ones. Requests of one user are alike, so residuals are summed up by user before they
are squared.

Legend: B requests.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Z = 1.96

Float64 = NDArray[np.float64]


class Estimate(BaseModel):
    """A measure and its 95 % interval; no interval where there are fewer than two draws."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None
    high: float | None


def estimate(amounts_B: Float64, bases_B: Float64, users_B: NDArray[np.integer]) -> Estimate:
    """sum(amounts) / sum(bases), with an interval that takes users as the independent draws.

    Linearised ratio estimator (Cochran 1977, 6.4) over the totals of users.

    Args:
        amounts_B: float [B], numerator of each request.
        bases_B: float [B], its denominator; ones for a plain mean.
        users_B: int [B], whose request it is.
    """
    total = bases_B.sum()
    value = float(amounts_B.sum() / total) if total else 0.0
    users = len(np.unique(users_B))
    if users < 2 or not total:
        return Estimate(value=value, low=None, high=None)
    error = clustered_error(amounts_B - value * bases_B, users_B) / float(total)
    return Estimate(value=value, low=value - Z * error, high=value + Z * error)


def clustered_error(residuals_B: Float64, users_B: NDArray[np.integer]) -> float:
    """Standard error of the sum of residuals, users being the independent draws.

    Args:
        residuals_B: float [B], they sum up to 0.
        users_B: int [B], whose request it is; at least two users.
    """
    users = len(np.unique(users_B))
    totals = np.bincount(users_B, residuals_B)
    return float(np.sqrt(users / (users - 1) * (totals**2).sum()))
