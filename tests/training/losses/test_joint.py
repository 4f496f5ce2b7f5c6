"""Losses through the operator: numbers by hand, padding, bypasses, weights, wrong arguments."""

import re
from math import exp, log

import pytest
import torch

from operators import dftopk_logits
from tests.training.losses.tensors import gradients, pair, random_mask, random_stages
from training.losses import joint_cross_entropy, survival_cross_entropy, topk_cross_entropy

NAN = float("nan")


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


# Weights


def test_weights_by_hand() -> None:
    scores = torch.tensor([[4.0, 2.0, 0.0], [2.0, 0.0, NAN]], dtype=torch.float64)
    labels = torch.tensor([[True, False, False], [False, True, False]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    weights = torch.tensor([0.5, 3.0])
    first = log(1 + exp(-1)) + log(1 + exp(-1)) + log(1 + exp(-3))  # logits 1, -1, -3
    second = log(1 + exp(1)) + log(1 + exp(1))  # logits 1, -1
    loss = topk_cross_entropy(scores, labels, 1, mask=mask, weights=weights)
    expected = (0.5 * first + 3 * second) / (0.5 * 3 + 3 * 2)
    assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_only_the_ratio_of_weights_matters() -> None:
    stages, labels = random_stages(2, 4, 6), random_mask(4, 6, share=0.4)
    weights = torch.tensor([0.1, 1.0, 2.5, 7.0])
    loss = joint_cross_entropy(stages, labels, [4, 2], weights=weights)
    scaled = joint_cross_entropy(stages, labels, [4, 2], weights=1000 * weights)
    torch.testing.assert_close(scaled, loss)
    assert loss != joint_cross_entropy(stages, labels, [4, 2])
    equal = joint_cross_entropy(stages, labels, [4, 2], weights=torch.full((4,), 3.0))
    torch.testing.assert_close(equal, joint_cross_entropy(stages, labels, [4, 2]))


def test_rows_of_no_weight_are_left_out() -> None:
    stages, labels = random_stages(2, 4, 6), random_mask(4, 6, share=0.4)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0])
    leaves = [s.clone().requires_grad_() for s in stages]
    loss = joint_cross_entropy(leaves, labels, [4, 2], weights=weights)
    kept = [s[[0, 2]] for s in stages]
    expected = joint_cross_entropy(kept, labels[[0, 2]], [4, 2], weights=weights[[0, 2]])
    torch.testing.assert_close(loss, expected)
    for gradient in gradients(loss, leaves):
        assert not gradient[[1, 3]].any()
        assert gradient[[0, 2]].any()


def test_no_weight_anywhere_is_a_loss_of_zero() -> None:
    (scores,) = random_stages(1, 2, 3)
    scores.requires_grad_()
    labels = random_mask(2, 3, share=0.4)
    loss = topk_cross_entropy(scores, labels, 1, weights=torch.zeros(2))
    assert loss.item() == 0.0
    assert not gradients(loss, [scores])[0].any()


@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
def test_weights_of_another_shape_are_named(shape: tuple[int, ...]) -> None:
    scores, labels = torch.randn(2, 3), torch.ones(2, 3, dtype=torch.bool)
    message = rf"^weights of shape {re.escape(str(list(shape)))} must be \[2\], one a row$"
    weights = torch.ones(shape)
    with pytest.raises(ValueError, match=message):
        topk_cross_entropy(scores, labels, 1, weights=weights)
    with pytest.raises(ValueError, match=message):
        joint_cross_entropy([scores], labels, [1], weights=weights)
    with pytest.raises(ValueError, match=message):
        survival_cross_entropy([scores], labels, [labels], labels, weights)
