"""Weights learned for losses: numbers by hand, and where they settle."""

from math import log

import mpmath
import numpy as np
import pytest
import torch

from operators import UncertaintyWeighting


def test_weighting_by_hand() -> None:
    weighting = UncertaintyWeighting(2)
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([log(2.0), log(0.5)]))
    loss = weighting([torch.tensor(3.0), torch.tensor(5.0)])
    expected = 0.5 * (3 / 2 + log(2)) + 0.5 * (5 / 0.5 + log(0.5))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    slopes = [0.5 * (1 - 3 / 2), 0.5 * (1 - 5 / 0.5)]
    assert weighting.log_variance.grad is not None
    np.testing.assert_allclose(weighting.log_variance.grad, slopes, rtol=1e-6)


def test_weighting_settles_at_the_variance() -> None:
    weighting = UncertaintyWeighting(2)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    losses = torch.tensor([0.25, 4.0])
    for _ in range(500):
        optimizer.zero_grad()
        weighting(losses.unbind()).backward()
        optimizer.step()
    np.testing.assert_allclose(weighting.log_variance.detach(), losses.log(), atol=1e-2)


def test_weighting_wants_as_many_losses_as_it_was_told() -> None:
    with pytest.raises(ValueError, match=r"^losses == 0 must be at least 1$"):
        UncertaintyWeighting(0)
    with pytest.raises(ValueError, match=r"1 losses given, 2 weights learned; pass as many as"):
        UncertaintyWeighting(2)([torch.tensor(1.0)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_equals_mpmath_in_the_square_of_the_weight(dtype: torch.dtype, scale: float) -> None:
    """The published form, sum L / (2 w^2) + log w, and its slopes in s = log w^2."""
    weighting = UncertaintyWeighting(4).to(dtype)
    logs = torch.tensor([-60.0, -9.0, 0.5, 60.0], dtype=dtype)
    with torch.no_grad():
        weighting.log_variance.copy_(logs)
    losses = (scale * torch.tensor([0.3, 1.0, 2.0, 7.0], dtype=dtype)).requires_grad_()
    total = weighting(losses.unbind())
    slopes = torch.autograd.grad(total, [weighting.log_variance, losses])
    with mpmath.workdps(60):
        w = [mpmath.exp(mpmath.mpf(s) / 2) for s in logs.tolist()]
        parts = [mpmath.mpf(v) / (2 * u**2) for v, u in zip(losses.tolist(), w, strict=True)]
        exact = float(mpmath.fsum(p + mpmath.log(u) for p, u in zip(parts, w, strict=True)))
        exact_logs = [float(mpmath.mpf(1) / 2 - p) for p in parts]
        exact_losses = [float(1 / (2 * u**2)) for u in w]
    rtol = 1e-5 if dtype == torch.float32 else 1e-13
    assert total.item() == pytest.approx(exact, rel=rtol)
    np.testing.assert_allclose(slopes[0], exact_logs, rtol=rtol)
    np.testing.assert_allclose(slopes[1], exact_losses, rtol=rtol)


def test_weighting_compiles_and_exports() -> None:
    torch._dynamo.reset()
    weighting = UncertaintyWeighting(2)
    losses = [torch.tensor(3.0), torch.tensor(5.0)]
    compiled = torch.compile(weighting, fullgraph=True, backend="aot_eager")
    assert compiled(losses).item() == weighting(losses).item() == 4.0
    exported = torch.export.export(weighting, (losses,))
    assert exported.module()(losses).item() == 4.0
