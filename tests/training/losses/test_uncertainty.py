"""Weights learned for losses: numbers by hand, and where they settle."""

from math import log

import numpy as np
import pytest
import torch

from training.losses import UncertaintyWeighting


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
