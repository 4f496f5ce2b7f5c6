"""LapSum and sparse top-k as textbooks have them, by sorting; and their backward in closed form.

They are the yardstick of speed for the sort-free operators, and an independent account of what the
values are. They ask for moderate scores, a single k, and 0 < k < N.

Legend: R rows, N candidates.
"""

from typing import Any

import torch
from torch import Tensor


class LapSum(torch.autograd.Function):
    """Breakpoints are the scores; between two of them `sum p = k` is quadratic in exp(theta)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, tau: float) -> Tensor:  # noqa: ANN401
        n = x.shape[-1]
        falling = x.sort(-1, descending=True).values / tau
        center = falling.mean(-1, keepdim=True)
        grown = (falling - center).exp()
        shrunk = (center - falling).exp()
        above = shrunk.cumsum(-1)  # theta at entry j: entries up to j are above or at it
        below = grown.sum(-1, keepdim=True) - grown.cumsum(-1)
        count = torch.arange(1, n + 1, device=x.device, dtype=x.dtype)
        mass = count - 0.5 * grown * above + 0.5 * shrunk * below
        j = (mass < k).sum(-1, keepdim=True) - 1  # theta is below entry j, above entry j + 1
        first = j.clamp(min=0)
        a = above.gather(-1, first).where(j >= 0, 0.0)
        b = below.gather(-1, first).where(j >= 0, grown.sum(-1, keepdim=True))
        c = (j + 1 - k).to(x.dtype)
        # With q = exp(theta - center): c - q a / 2 + b / (2 q) = 0.
        root = (c * c + a * b).sqrt()
        q = torch.where(c >= 0, (c + root) / a, b / (root - c))
        z = x / tau - (q.log() + center)
        tail = 0.5 * (-z.abs()).exp()
        soft = torch.where(z > 0, 1 - tail, tail)
        ctx.save_for_backward(tail)
        ctx.tau = tau
        return soft

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (tail,) = ctx.saved_tensors
        pull = grad * tail
        mean = pull.sum(-1, keepdim=True) / tail.sum(-1, keepdim=True)
        return (pull - tail * mean) / ctx.tau, None, None


class Sparse(torch.autograd.Function):
    """Breakpoints are x and x - tau; between two of them `sum p` is linear in theta."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, tau: float) -> Tensor:  # noqa: ANN401
        edges, order = torch.cat([x, x - tau], -1).sort(-1, descending=True)
        entering = torch.where(order < x.shape[-1], 1.0, -1.0).to(x.dtype)
        inside = entering.cumsum(-1)
        steps = (edges[..., :-1] - edges[..., 1:]) * inside[..., :-1] / tau
        mass = torch.nn.functional.pad(steps.cumsum(-1), (1, 0))
        j = (mass < k).sum(-1, keepdim=True).clamp(1, edges.shape[-1]) - 1
        slope = inside.gather(-1, j).clamp(min=1)
        theta = edges.gather(-1, j) - tau * (k - mass.gather(-1, j)) / slope
        soft = ((x - theta) / tau).clamp(0, 1)
        ctx.save_for_backward(soft)
        ctx.tau = tau
        return soft

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (soft,) = ctx.saved_tensors
        inside = ((soft > 0) & (soft < 1)).to(grad.dtype)
        pull = grad * inside
        mean = pull.sum(-1, keepdim=True) / inside.sum(-1, keepdim=True).clamp(min=1)
        return (pull - inside * mean) / ctx.tau, None, None
