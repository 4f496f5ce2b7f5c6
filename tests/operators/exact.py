"""Operators with a threshold and the loss through them in mpmath: written apart from the code.

All of it are sums and products of positive numbers (the distributions are symmetric, so 1 - F(z) is
F(-z), and what does not survive is lost in the first, the second, ... stage): nothing cancels, and
80 digits are plenty whatever the exponents are.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mpmath
from mpmath import mpf


class Shape(NamedTuple):
    """A symmetric distribution function, and its slope."""

    membership: Callable[[mpf], mpf]
    slope: Callable[[mpf], mpf]


def _logistic(z: mpf) -> mpf:
    return 1 / (1 + mpmath.exp(-z))


def _laplace(z: mpf) -> mpf:
    return mpmath.exp(z) / 2 if z < 0 else 1 - mpmath.exp(-z) / 2


_LOGISTIC = Shape(_logistic, lambda z: _logistic(z) * _logistic(-z))
_LAPLACE = Shape(_laplace, lambda z: mpmath.exp(-abs(z)) / 2)
SHAPES = {"dftopk": _LOGISTIC, "logistic_topk": _LOGISTIC, "lapsum": _LAPLACE}


class Stage(NamedTuple):
    """What becomes of the entries of a row."""

    kept: list[mpf]
    """Probability of being among the top k."""
    lost: list[mpf]
    """That of not being."""
    slopes: list[mpf]
    """Derivative of the membership in its own score, were the threshold fixed."""
    shares: list[mpf]
    """Derivative of the threshold in each score."""


def stage(operator: str, row: Sequence[float], k: int, tau: float) -> Stage:
    """One row for 0 < k < N, without ties at the boundaries."""
    shape = SHAPES[operator]
    x = [mpf(score) / mpf(tau) for score in row]
    falling = sorted(x, reverse=True)
    midpoint = (falling[k - 1] + falling[k]) / 2
    theta = midpoint if operator == "dftopk" else _root(shape, falling, k)
    slopes = [shape.slope(v - theta) / mpf(tau) for v in x]
    shares = [slope / mpmath.fsum(slopes) for slope in slopes]
    if operator == "dftopk":
        shares = [mpf(v in falling[k - 1 : k + 1]) / 2 for v in x]
    kept = [shape.membership(v - theta) for v in x]
    return Stage(kept, [shape.membership(theta - v) for v in x], slopes, shares)


def _root(shape: Shape, falling: list[mpf], k: int) -> mpf:
    """Where memberships sum to k: the balance of the tails, then Newton's method."""
    below = mpmath.log(mpmath.fsum(mpmath.exp(v - falling[k]) for v in falling[k:]))
    above = mpmath.log(mpmath.fsum(mpmath.exp(falling[k - 1] - v) for v in falling[:k]))
    theta = (falling[k] + below + falling[k - 1] - above) / 2
    for _ in range(200):
        surplus = [shape.membership(v - theta) for v in falling[k:]]
        missing = [-shape.membership(theta - v) for v in falling[:k]]
        slope = mpmath.fsum(shape.slope(v - theta) for v in falling)
        step = mpmath.fsum(surplus + missing) / slope
        theta += step
        if abs(step) < mpf(10) ** -50:
            return theta
    raise AssertionError(f"no root for {falling}, {k}")


def cross_entropy(
    operator: str,
    stages: Sequence[Sequence[float]],
    labels: Sequence[float],
    ks: Sequence[int],
    tau: float,
) -> tuple[float, list[list[float]]]:
    """Mean cross-entropy of survival over one row, and its gradient in the scores of each stage."""
    with mpmath.workdps(80):
        made = [stage(operator, row, k, tau) for row, k in zip(stages, ks, strict=True)]
        losses, pulls = [], []
        for i, label in enumerate(labels):
            survives, dies = mpf(1), mpf(0)
            for one in made:
                dies += survives * one.lost[i]
                survives *= one.kept[i]
            losses.append(-label * mpmath.log(survives) - (1 - mpf(label)) * mpmath.log(dies))
            pulls.append((-label / survives + (1 - mpf(label)) / dies) * survives / len(labels))
        value = float(mpmath.fsum(losses) / len(labels))
        return value, [_gradient(one, pulls) for one in made]


def _gradient(one: Stage, pulls: list[mpf]) -> list[float]:
    """Gradient in a stage's scores, given P dL/dP of every entry."""
    direct = [p * f / m for p, f, m in zip(pulls, one.slopes, one.kept, strict=True)]
    total = mpmath.fsum(direct)
    return [float(d - share * total) for d, share in zip(direct, one.shares, strict=True)]
