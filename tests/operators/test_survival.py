"""Survival through stages: mpmath where floating point gives up, gradients, and what counts."""

from functools import cache
from math import exp, log

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from operators import dftopk_logits, joint_cross_entropy, survival_cross_entropy
from tests.operators.tensors import gradients, pair, random_mask, random_stages

NAN = float("nan")


def test_saturated_stages_keep_loss_and_gradient() -> None:
    logits = [torch.tensor([20.0], requires_grad=True) for _ in range(2)]
    product = torch.sigmoid(logits[0]) * torch.sigmoid(logits[1])
    naive = torch.nn.functional.binary_cross_entropy(product, torch.zeros(1))
    assert naive.item() == 100.0  # the clamp of a logarithm of zero, where 19.31 is right
    assert [g.item() for g in gradients(naive, logits)] == [0.0, 0.0]  # where 0.5 is right

    first, second = pair(20.0, torch.float32), pair(20.0, torch.float32)
    losers = torch.tensor([[False, False]])
    loss = joint_cross_entropy([first, second], losers, [1, 1])
    # The second candidate, at -20 twice, adds nothing; the mean is over two entries.
    assert 2 * loss.item() == pytest.approx(20 - log(2), rel=1e-6)
    for gradient in gradients(loss, [first, second]):
        # logit = half the difference of the scores, and each candidate's moves both scores.
        np.testing.assert_allclose(2 * gradient, [[0.5 / 2, -0.5 / 2]], rtol=1e-6)


@cache
def exact_loss(logits: tuple[float, ...], label: bool) -> tuple[float, list[float]]:
    """Cross-entropy of survival and its slopes, in 60 digits beyond those that 1 - P needs."""
    with mpmath.workdps(60 + int(max(abs(a) for a in logits) / log(10))):
        factors = [1 / (1 + mpmath.exp(-mpmath.mpf(a))) for a in logits]
        survival = mpmath.fprod(factors)
        rest = 1 - survival
        value = -mpmath.log(survival if label else rest)
        slopes = [-(1 - f) if label else (1 - f) * survival / rest for f in factors]
        return float(value), [float(s) for s in slopes]


EXTREMES = [-1e4, -40.0, -3.0, 0.0, 0.5, 20.0, 300.0, 1e4]


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-11), (torch.float32, 1e-3)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("label", [True, False])
def test_equals_mpmath_from_minus_to_plus_ten_thousand(
    dtype: torch.dtype, rtol: float, label: bool
) -> None:
    # float32 resolves 1e4 to 1e-3, so no more can be asked of a gradient there.
    for first in EXTREMES:
        for second in EXTREMES:
            leaves = [pair(first, dtype), pair(second, dtype)]
            labels = torch.tensor([[label, label]])
            loss = joint_cross_entropy(leaves, labels, [1, 1])
            up, up_slopes = exact_loss((first, second), label)
            down, down_slopes = exact_loss((-first, -second), label)
            assert loss.item() == pytest.approx((up + down) / 2, rel=rtol / 10, abs=1e-30)
            for leaf, up_slope, down_slope in zip(leaves, up_slopes, down_slopes, strict=True):
                (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
                expected = (up_slope - down_slope) / 4
                np.testing.assert_allclose(gradient, [[expected, -expected]], rtol=rtol, atol=1e-30)


def test_a_loser_that_cannot_survive_gets_no_noise() -> None:
    first, second = pair(-40.0, torch.float32), pair(1.0, torch.float32)
    passes = [torch.tensor([[False, True]]), torch.tensor([[False, True]])]
    losers = torch.tensor([[False, False]])
    loss = joint_cross_entropy([first, second], losers, [1, 1], passes=passes)
    _, exact = exact_loss((-40.0, 1.0), False)
    assert 0 < exact[1] < 1e-17
    gradient = gradients(loss, [second])[0]
    np.testing.assert_allclose(gradient, [[exact[1] / 2, -exact[1] / 2]], rtol=1e-5)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_gradients_through_any_number_of_stages(stages: int) -> None:
    leaves = [s.requires_grad_() for s in random_stages(stages, 3, 6)]
    labels, mask = random_mask(3, 6, share=0.4), random_mask(3, 6, share=0.9, seed=5)
    passes = [random_mask(3, 6, share=0.3, seed=9), *[None] * (stages - 1)]
    ks = [torch.tensor([3, 9, 2]), *range(stages - 1, 0, -1)]

    def loss_of(*scores: Tensor) -> Tensor:
        return joint_cross_entropy(scores, labels, ks, tau=0.7, mask=mask, passes=passes)

    assert loss_of(*leaves).item() > 0
    assert gradcheck(loss_of, leaves)
    assert gradgradcheck(loss_of, leaves)


def test_survival_by_hand() -> None:
    """Three entries that count: both stages, the second alone, and one that is lost."""
    logits = [
        torch.tensor([[1.5, NAN, -0.5, 9.0]], dtype=torch.float64),
        torch.tensor([[-0.5, 2.0, 0.25, 9.0]], dtype=torch.float64),
    ]
    decides = [torch.tensor([[True, False, True, True]]), torch.tensor([[True, True, True, True]])]
    labels = torch.tensor([[True, True, False, False]])
    counted = torch.tensor([[True, True, True, False]])
    both = 1 / (1 + exp(-1.5)) * 1 / (1 + exp(0.5))
    alone = 1 / (1 + exp(-2.0))
    lost = 1 / (1 + exp(0.5)) * 1 / (1 + exp(-0.25))
    expected = (-log(both) - log(alone) - log(1 - lost)) / 3
    loss = survival_cross_entropy(logits, labels, decides, counted)
    assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_what_no_stage_decides_or_does_not_count_gives_no_gradient() -> None:
    first, second = (logits.requires_grad_() for logits in random_stages(2, 2, 4))
    labels = random_mask(2, 4, share=0.5)
    decides = [torch.tensor([[True, False, True, False]] * 2), torch.ones(2, 4, dtype=torch.bool)]
    decides[1][:, 3] = False  # no stage decides the last
    counted = torch.tensor([[True, True, False, True]] * 2)
    loss = survival_cross_entropy([first, second], labels, decides, counted)
    one, other = gradients(loss, [first, second])
    assert one.ne(0).tolist() == [[True, False, False, False]] * 2
    assert other.ne(0).tolist() == [[True, True, False, False]] * 2
    nothing = survival_cross_entropy([first, second], labels, decides, ~counted & ~decides[1])
    assert nothing.item() == 0.0


def test_the_loss_through_operators_is_survival_of_their_logits() -> None:
    stages, labels = random_stages(2, 3, 6), random_mask(3, 6, share=0.4)
    weights = torch.tensor([0.5, 1.0, 2.0])
    logits = [dftopk_logits(s, k, tau=0.7) for s, k in zip(stages, (4, 2), strict=True)]
    everywhere = torch.ones(3, 6, dtype=torch.bool)
    torch.testing.assert_close(
        survival_cross_entropy(logits, labels, [everywhere] * 2, everywhere, weights),
        joint_cross_entropy(stages, labels, [4, 2], tau=0.7, weights=weights),
    )


def test_gradients_of_weighted_survival() -> None:
    leaves = [s.requires_grad_() for s in random_stages(3, 3, 4)]
    labels, counted = random_mask(3, 4, share=0.4), random_mask(3, 4, share=0.8, seed=5)
    decides = [random_mask(3, 4, share=0.6, seed=seed) for seed in (1, 2, 9)]
    weights = torch.tensor([0.5, 0.0, 2.0])

    def loss_of(*logits: Tensor) -> Tensor:
        return survival_cross_entropy(logits, labels, decides, counted, weights)

    assert gradcheck(loss_of, leaves)


@pytest.mark.parametrize("filler", [NAN, float("inf"), -float("inf")])
def test_logits_that_do_not_decide_leave_no_trace_in_second_derivatives(filler: float) -> None:
    first, second = (logits.requires_grad_() for logits in random_stages(2, 2, 4))
    decides = [random_mask(2, 4, share=0.6, seed=seed) for seed in (1, 2)]
    everywhere, labels = torch.ones(2, 4, dtype=torch.bool), random_mask(2, 4, share=0.5)
    seconds = []
    for blank in (0.0, filler):
        given = [torch.where(d, s, blank) for s, d in zip((first, second), decides, strict=True)]
        loss = survival_cross_entropy(given, labels, decides, everywhere)
        slopes = torch.autograd.grad(loss, [first, second], create_graph=True)
        squares = sum(slope.square().sum() for slope in slopes)
        seconds.append(gradients(torch.as_tensor(squares), [first, second]))
    for expected, found in zip(*seconds, strict=True):
        assert expected.any()
        assert torch.equal(expected, found)
