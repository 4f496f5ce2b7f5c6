"""Losses: numbers by hand, mpmath where floating point gives up, and masks that change nothing."""

from collections.abc import Sequence
from functools import cache
from math import exp, log

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from operators import dftopk_logits
from training.losses import (
    UncertaintyWeighting,
    binary_cross_entropy,
    joint_cross_entropy,
    topk_cross_entropy,
)

NAN = float("nan")


def random_stages(stages: int, *shape: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [
        scale * torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(stages)
    ]


def random_mask(*shape: int, share: float, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def gradients(loss: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def pair(logit: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Two candidates whose DFTopK logits at k = 1 are `logit` and `-logit`."""
    return torch.tensor([[2 * logit, 0.0]], dtype=dtype).requires_grad_()


# One stage


def test_one_stage_by_hand() -> None:
    scores = torch.tensor([[4.0, 2.0, 0.0]], dtype=torch.float64)  # threshold 3: logits 1, -1, -3
    loss = topk_cross_entropy(scores, torch.tensor([[True, False, False]]), 1)
    expected = (log(1 + exp(-1)) + log(1 + exp(-1)) + log(1 + exp(-3))) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_tau_divides_the_logits() -> None:
    scores, labels = random_stages(1, 3, 6)[0], random_mask(3, 6, share=0.3)
    torch.testing.assert_close(
        topk_cross_entropy(scores, labels, 2, tau=4.0), topk_cross_entropy(scores / 4, labels, 2)
    )


def test_rows_that_no_score_can_change_are_left_out() -> None:
    scores, labels = random_stages(1, 5, 4)[0], random_mask(5, 4, share=0.4)
    k_B = torch.tensor([0, 4, 2, -1, 9])
    leaf = scores.clone().requires_grad_()
    loss = topk_cross_entropy(leaf, labels, k_B)
    torch.testing.assert_close(loss, topk_cross_entropy(scores[2:3], labels[2:3], 2))
    (gradient,) = gradients(loss, [leaf])
    assert torch.count_nonzero(gradient[[0, 1, 3, 4]]) == 0


def test_nothing_to_learn_from_is_a_loss_of_zero() -> None:
    scores = torch.zeros(2, 3, requires_grad=True)
    loss = topk_cross_entropy(scores, torch.zeros(2, 3, dtype=torch.bool), 3)
    assert loss.item() == 0.0
    assert torch.count_nonzero(gradients(loss, [scores])[0]) == 0


@pytest.mark.parametrize("filler", [0.0, 1e9, -1e9, float("inf"), NAN])
def test_padding_never_changes_the_loss_or_its_gradient(filler: float) -> None:
    stages, labels = random_stages(2, 3, 5), random_mask(3, 5, share=0.4)
    bare = [s.clone().requires_grad_() for s in stages]
    expected = joint_cross_entropy(bare, labels, [3, 2])
    padding = torch.full((3, 4), filler, dtype=torch.float64)
    padded = [torch.cat([s, padding], 1).requires_grad_() for s in stages]
    mask = torch.arange(9).expand(3, 9) < 5
    loss = joint_cross_entropy(
        padded, torch.cat([labels, torch.ones(3, 4, dtype=torch.bool)], 1), [3, 2], masks=mask
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
    for mine, theirs in zip(gradients(loss, padded), gradients(expected, bare), strict=True):
        torch.testing.assert_close(mine[:, :5], theirs)
        assert torch.count_nonzero(mine[:, 5:]) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    scores = random_stages(1, 4, 20)[0].to(dtype).requires_grad_()
    labels = random_mask(4, 20, share=0.3)
    loss = topk_cross_entropy(scores, labels, 5, tau=0.01)
    assert loss.dtype == torch.float32
    assert loss.item() == topk_cross_entropy(scores.float(), labels, 5, tau=0.01).item()
    assert gradients(loss, [scores])[0].dtype == dtype


# A cascade


def test_two_stages_by_hand() -> None:
    first, second = pair(1.5), pair(-0.5)
    labels = torch.tensor([[True, False]])
    survives = (1 / (1 + exp(-1.5))) * (1 / (1 + exp(0.5)))
    other = (1 / (1 + exp(1.5))) * (1 / (1 + exp(-0.5)))
    loss = joint_cross_entropy([first, second], labels, [1, 1])
    assert loss.item() == pytest.approx((-log(survives) - log(1 - other)) / 2, rel=1e-14)


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
        return joint_cross_entropy(scores, labels, ks, tau=0.7, masks=mask, passes=passes)

    assert loss_of(*leaves).item() > 0
    assert gradcheck(loss_of, leaves)
    assert gradgradcheck(loss_of, leaves)


def test_equals_the_product_of_sigmoids_where_that_is_safe() -> None:
    stages, labels = random_stages(3, 8, 10), random_mask(8, 10, share=0.3)
    ks = [6, 4, 2]
    survival = torch.ones(8, 10, dtype=torch.float64)
    for scores, k in zip(stages, ks, strict=True):
        survival = survival * dftopk_logits(scores, k).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(survival, labels.double())
    torch.testing.assert_close(joint_cross_entropy(stages, labels, ks), expected)


def test_a_bypassed_stage_has_factor_one() -> None:
    stages, labels = random_stages(2, 1, 4), torch.tensor([[True, False, False, True]])
    bypass = torch.tensor([[False, True, False, True]])
    first, second = (dftopk_logits(s, 2).sigmoid() for s in stages)
    survival = torch.where(bypass, 1.0, first) * second
    expected = torch.nn.functional.binary_cross_entropy(survival, labels.double())
    loss = joint_cross_entropy(stages, labels, [2, 2], passes=[bypass, None])
    torch.testing.assert_close(loss, expected)
    # The same in the other order: the first stage an entry meets may be any.
    swapped = joint_cross_entropy(stages[::-1], labels, [2, 2], passes=[None, bypass])
    torch.testing.assert_close(swapped, expected)


def test_an_entry_may_bypass_a_stage_it_does_not_compete_in() -> None:
    stages, labels = random_stages(2, 1, 4), torch.tensor([[True, False, False, True]])
    competes = torch.tensor([[True, True, True, False]])
    first = dftopk_logits(stages[0], 2, mask=competes).sigmoid()
    survival = torch.where(competes, first, 1.0) * dftopk_logits(stages[1], 2).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(survival, labels.double())
    masks = [competes, None]
    loss = joint_cross_entropy(stages, labels, [2, 2], masks=masks, passes=[~competes, None])
    torch.testing.assert_close(loss, expected)
    without = joint_cross_entropy(stages, labels, [2, 2], masks=masks)
    expected = torch.nn.functional.binary_cross_entropy(survival[:, :3], labels[:, :3].double())
    torch.testing.assert_close(without, expected)


def test_an_entry_that_no_stage_decides_is_left_out() -> None:
    stages, labels = random_stages(2, 1, 4), torch.tensor([[True, False, False, True]])
    everywhere = torch.tensor([[False, False, False, True]])
    survival = dftopk_logits(stages[0], 2).sigmoid() * dftopk_logits(stages[1], 2).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(survival[:, :3], labels[:, :3].double())
    loss = joint_cross_entropy(stages, labels, [2, 2], passes=[everywhere, everywhere])
    torch.testing.assert_close(loss, expected)


def test_a_stage_that_passes_everyone_leaves_the_other_to_decide() -> None:
    stages, labels = random_stages(2, 3, 4), random_mask(3, 4, share=0.4)
    alone = topk_cross_entropy(stages[1], labels, 2)
    torch.testing.assert_close(joint_cross_entropy(stages, labels, [4, 2]), alone)
    torch.testing.assert_close(joint_cross_entropy(stages[::-1], labels, [2, 4]), alone)
    assert joint_cross_entropy(stages, labels, [0, 2]).item() == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stage_scores": []}, r"stage_scores is empty and must hold the scores"),
        ({"labels_BN": torch.ones(2, 3)}, r"labels of torch.float32 must be torch.bool; pass lab"),
        (
            {"stage_scores": [torch.ones(2, 3), torch.ones(2, 4)]},
            r"scores of shape \[2, 4\] in stage 1 must be \[B, N\] like the labels \[2, 3\]",
        ),
        ({"ks": [1]}, r"ks has 1 entries and must have one for each of 2 stages"),
        ({"masks": [None]}, r"masks has 1 entries and must have one for each of 2 stages"),
        ({"passes": [None] * 3}, r"passes has 3 entries and must have one for each of 2 stages"),
        (
            {"passes": [torch.ones(2, 3), None]},
            r"passes of torch.float32 and shape \[2, 3\] must be torch.bool of the scores' shape",
        ),
        (
            {"passes": [None, torch.ones(3, dtype=torch.bool)]},
            r"passes of torch.bool and shape \[3\] must be torch.bool of the scores' shape",
        ),
        ({"operator": "sort"}, r"operator == 'sort' must be one of: dftopk"),
        ({"tau": 0.0}, r"tau == 0.0 must be finite and above 0"),
    ],
)
def test_wrong_joint_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "stage_scores": [torch.ones(2, 3)] * 2,
        "labels_BN": torch.ones(2, 3, dtype=torch.bool),
        "ks": [2, 1],
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        joint_cross_entropy(**given)  # type: ignore[arg-type]


# Pointwise


def test_pointwise_by_hand_with_mask_and_weights() -> None:
    logits = torch.tensor([[2.0, -1.0, NAN]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[True, True, True]])
    mask = torch.tensor([[True, True, False]])
    weights = torch.tensor([[1.0, 3.0, NAN]])
    loss = binary_cross_entropy(logits, labels, mask, weights)
    expected = (1 * log(1 + exp(-2)) + 3 * log(1 + exp(1))) / (1 + 3)
    assert loss.item() == pytest.approx(expected, rel=1e-14)
    slopes = [-1 / (1 + exp(2)) * 1 / 4, -1 / (1 + exp(-1)) * 3 / 4, 0]
    np.testing.assert_allclose(gradients(loss, [logits])[0], [slopes], rtol=1e-14)


def test_pointwise_without_options_is_the_plain_mean() -> None:
    logits, labels = random_stages(1, 3, 4)[0], random_mask(3, 4, share=0.5)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double())
    torch.testing.assert_close(binary_cross_entropy(logits, labels), expected)


def test_pointwise_over_nothing_is_zero() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert binary_cross_entropy(torch.ones(2, 3), nothing, mask=nothing).item() == 0.0


def test_pointwise_half_precision_is_computed_in_float32() -> None:
    logits = torch.full((1, 3), 9.0, dtype=torch.bfloat16)
    loss = binary_cross_entropy(logits, torch.ones(1, 3, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(log(1 + exp(-9)), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels_BN": torch.ones(2, 3)}, r"labels of torch.float32 must be torch.bool"),
        ({"mask": torch.ones(2, 3)}, r"mask of torch.float32 must be torch.bool; pass mask > 0"),
        (
            {"weights": torch.ones(3)},
            r"weights of shape \[3\] must have the logits' shape \[2, 3\]",
        ),
    ],
)
def test_wrong_pointwise_arguments_are_named(arguments: dict[str, Tensor], message: str) -> None:
    given = {"labels_BN": torch.ones(2, 3, dtype=torch.bool), **arguments}
    with pytest.raises(ValueError, match=message):
        binary_cross_entropy(torch.ones(2, 3), **given)


# Weighting


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
