"""Losses through operators with a threshold, against mpmath, for scores up to ten thousand."""

import numpy as np
import pytest
import torch

from operators import joint_cross_entropy, topk_cross_entropy
from tests.operators import exact
from tests.operators.tensors import random_mask, random_stages

TOLERANCES = pytest.mark.parametrize(
    # A gradient is as exact as the largest logit: float32 resolves 1e4 to 1e-3.
    ("dtype", "loss_tolerance", "gradient_tolerance"),
    [(torch.float64, 1e-12, 1e-10), (torch.float32, 1e-5, 3e-3)],
    ids=["float64", "float32"],
)


@pytest.mark.parametrize("operator", exact.SHAPES)
@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("span", [1.0, 30.0, 1e3, 1e4])
@TOLERANCES
def test_loss_and_gradient_equal_mpmath(
    operator: str,
    stages: int,
    span: float,
    dtype: torch.dtype,
    loss_tolerance: float,
    gradient_tolerance: float,
) -> None:
    rows = [(span * s.tanh()).to(dtype) for s in random_stages(stages, 5)]
    leaves = [row.clone().requires_grad_() for row in rows]
    ks = [4, 3, 2, 1][-stages:]
    for labels in (torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]), random_stages(1, 5)[0].sigmoid()):
        loss = joint_cross_entropy(leaves, labels, ks, operator)
        gradients = torch.autograd.grad(loss, leaves)
        value, slopes = exact.cross_entropy(
            operator, [row.tolist() for row in rows], labels.to(dtype).tolist(), ks, 1.0
        )
        assert loss.item() == pytest.approx(value, rel=loss_tolerance)
        for gradient, slope in zip(gradients, slopes, strict=True):
            atol = gradient_tolerance * max(map(abs, slope)) + 1e-30
            np.testing.assert_allclose(gradient, slope, rtol=gradient_tolerance, atol=atol)


@pytest.mark.parametrize("operator", exact.SHAPES)
@pytest.mark.parametrize("tau", [0.01, 0.3, 50.0])
def test_tau_reaches_the_loss(operator: str, tau: float) -> None:
    (scores,) = random_stages(1, 6)
    labels = random_mask(6, share=0.4)
    loss = topk_cross_entropy(scores.requires_grad_(), labels, 2, operator, tau)
    (gradient,) = torch.autograd.grad(loss, scores)
    value, (slope,) = exact.cross_entropy(
        operator, [scores.tolist()], labels.double().tolist(), [2], tau
    )
    assert loss.item() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-11)
