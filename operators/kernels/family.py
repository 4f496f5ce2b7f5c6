"""Distribution functions F that turn a distance from the threshold into a soft membership.

A smooth F is symmetric about 0: with z = (x - theta) / tau and the tail T(z) = F(-|z|), F(z) is T
below 0 and 1 - T above it. Excess is summed as `(count of F >= 1/2) - k + (sum of what F lacks from
0 or 1, signed)`: counts are exact and only tails are rounded, so nothing cancels when tau is small.

Legend: ... any leading dimensions ("rows"), R rows, N candidates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

FAR = 87.0
"""Tails further out, in tau, are cut: there float32 loses precision, and a processor its speed."""


class Family(Protocol):
    """What an operator and the search for its threshold ask of F."""

    @property
    def smooth(self) -> bool:
        """Whether log F' has slope at most 1, so that a short step of Newton's method is safe."""
        ...

    def soft(self, distance: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """F and F' [..., N] of the distance x - theta, which is written over."""
        ...

    def excess(
        self, distance: Tensor, k: Tensor, tau: float, spare: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of F less k, and sum of F' [R, 1]; distance and spare [R, N] are written over."""
        ...

    def bend(self, soft: Tensor) -> Tensor:
        """F'' / F' of F."""
        ...

    def quantile(self, share: Tensor) -> Tensor:
        """Inverse of F."""
        ...


@dataclass(frozen=True)
class Smooth:
    """A symmetric F by its tail."""

    tail: Callable[[Tensor, float], Tensor]
    """T of |x - theta| and tau, in place."""
    square: bool
    """F' is T - T^2 if so, and T if not."""
    bend: Callable[[Tensor], Tensor]
    quantile: Callable[[Tensor], Tensor]
    smooth: bool = True

    def soft(self, distance: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """As in `Family`."""
        side = distance.sign()
        tails = self.tail(distance.abs_(), tau)
        soft = (0.5 * side).add_(0.5).sub_(side.mul_(tails))
        return soft, torch.addcmul(tails, tails, tails, value=-1) if self.square else tails

    def excess(
        self, distance: Tensor, k: Tensor, tau: float, spare: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `Family`."""
        above = torch.ge(distance, 0.0, out=spare)  # as 0.0 and 1.0, to be multiplied
        count = above.sum(-1, keepdim=True)
        tails = self.tail(distance.abs_().clamp_(max=FAR * tau), tau)
        total = tails.sum(-1, keepdim=True)
        upper = above.mul_(tails).sum(-1, keepdim=True)
        slope = total - tails.square_().sum(-1, keepdim=True) if self.square else total
        return (count - k) + (total - 2 * upper), slope


class Box:
    """`clip(z, 0, 1)`, the distribution function of the uniform distribution on [0, 1]."""

    smooth = False

    def soft(self, distance: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """As in `Family`."""
        soft = distance.div_(tau).clamp(0, 1)
        return soft, torch.addcmul(soft, soft, soft, value=-1).ceil_()  # sign would lose a NaN

    def excess(
        self, distance: Tensor, k: Tensor, tau: float, spare: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in `Family`."""
        soft = distance.div_(tau).clamp_(0, 1)
        above = torch.ge(soft, 0.5, out=spare)
        count = above.sum(-1, keepdim=True)
        lack = soft.sub_(above)
        excess = (count - k) + lack.sum(-1, keepdim=True)
        return excess, lack.sign_().abs_().sum(-1, keepdim=True)

    def bend(self, soft: Tensor) -> Tensor:
        """As in `Family`."""
        return torch.zeros_like(soft)

    def quantile(self, share: Tensor) -> Tensor:
        """As in `Family`."""
        return share


def _laplace(distance: Tensor, tau: float) -> Tensor:
    # exp(-|z|) / 2 as a power of 2: torch.exp2 takes a third of the time of torch.exp.
    return distance.div_(-tau * math.log(2)).sub_(1).exp2_()


def _laplace_quantile(share: Tensor) -> Tensor:
    side = share - 0.5
    return torch.log1p(-2 * side.abs()).neg().copysign(side)


def _logistic(distance: Tensor, tau: float) -> Tensor:
    return distance.div_(-tau).sigmoid_()


def _logistic_quantile(share: Tensor) -> Tensor:
    return share.log() - torch.log1p(-share)


FAMILIES: dict[str, Family] = {
    "laplace": Smooth(_laplace, False, lambda soft: (0.5 - soft).sign(), _laplace_quantile),
    "logistic": Smooth(_logistic, True, lambda soft: 1 - 2 * soft, _logistic_quantile),
    "box": Box(),
}
"""`laplace`: Laplace(0, 1); `logistic`: the sigmoid; `box`: `clip(z, 0, 1)`."""
