"""Labels of losses: numbers between 0 and 1, what is refused, and what is never looked at."""

from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from operators import joint_cross_entropy, survival_cross_entropy, topk_cross_entropy
from tests.operators.tensors import gradients, pair, random_mask, random_stages

NAN = float("nan")


def test_soft_labels_by_hand() -> None:
    scores = torch.tensor([4.0, 2.0, 0.0], dtype=torch.float64)  # threshold 3: logits 1, -1, -3
    loss = topk_cross_entropy(scores, torch.tensor([0.75, 0.5, 0.0]), 1)
    first = 0.75 * log(1 + exp(-1)) + 0.25 * log(1 + exp(1))
    second = 0.5 * log(1 + exp(1)) + 0.5 * log(1 + exp(-1))
    assert loss.item() == pytest.approx((first + second + log(1 + exp(-3))) / 3, rel=1e-7)


def test_a_soft_label_mixes_the_losses_of_hard_ones() -> None:
    stages = random_stages(3, 4, 6)
    yes, no = torch.ones(4, 6, dtype=torch.bool), torch.zeros(4, 6, dtype=torch.bool)
    win, lose = (joint_cross_entropy(stages, labels, [4, 3, 2]) for labels in (yes, no))
    mixed = joint_cross_entropy(stages, torch.full((4, 6), 0.3).double(), [4, 3, 2])
    torch.testing.assert_close(mixed, 0.3 * win + 0.7 * lose)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_zero_and_one_are_false_and_true(dtype: torch.dtype) -> None:
    stages, labels = (
        [s.requires_grad_() for s in random_stages(2, 4, 6)],
        random_mask(4, 6, share=0.4),
    )
    hard, soft = (joint_cross_entropy(stages, y, [4, 2]) for y in (labels, labels.to(dtype)))
    assert hard.item() == soft.item()
    for one, other in zip(gradients(hard, stages), gradients(soft, stages), strict=True):
        assert torch.equal(one, other)


def test_certain_labels_of_saturated_entries_cost_what_they_should() -> None:
    leaf = pair(1e4)
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert topk_cross_entropy(leaf, right, 1).item() == 0.0
    assert topk_cross_entropy(leaf, wrong, 1).item() == pytest.approx(1e4)
    half = topk_cross_entropy(leaf, 0.5 * (right + wrong), 1)
    assert half.item() == pytest.approx(0.5e4)
    assert gradients(half, [leaf])[0].tolist() == [[0.25, -0.25]]


def test_gradients_reach_the_labels() -> None:
    leaves = [s.requires_grad_() for s in random_stages(2, 2, 5)]
    labels = random_stages(1, 2, 5)[0].sigmoid().requires_grad_()
    mask = random_mask(2, 5, share=0.8)

    def loss_of(y: Tensor, *scores: Tensor) -> Tensor:
        return joint_cross_entropy(scores, y, [3, 1], mask=mask)

    assert gradcheck(loss_of, (labels, *leaves))
    assert gradgradcheck(loss_of, (labels, *leaves))


@pytest.mark.parametrize("filler", [NAN, -1.0, 7.0])
def test_labels_that_do_not_count_may_be_anything(filler: float) -> None:
    (scores,) = random_stages(1, 2, 4)
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    labels = torch.tensor([[1.0, 0.5, 0.0, filler], [filler] * 4], dtype=torch.float64)
    leaf = scores.clone().requires_grad_()
    loss = topk_cross_entropy(leaf, labels, 2, mask=mask)
    expected = topk_cross_entropy(scores[:1, :3], labels[:1, :3], 2)
    torch.testing.assert_close(loss, expected)
    assert not gradients(loss, [leaf])[0][~mask].any()
    # An entry that one stage decides and another drops does not count either.
    drops = torch.tensor([2, 0])
    partly = torch.tensor([[1.0, 0.5, 0.0, 1.0], [filler] * 4], dtype=torch.float64)
    leaf, partly = leaf.detach().requires_grad_(), partly.requires_grad_()
    joint = joint_cross_entropy([leaf, leaf], partly, [2, drops])
    torch.testing.assert_close(
        joint, joint_cross_entropy([scores[:1]] * 2, partly.detach()[:1], [2, 2])
    )
    for gradient in gradients(joint, [leaf, partly]):
        assert gradient[0].all()
        assert not gradient[1].any()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [(1.5, "1.5"), (-0.25, "-0.25"), (NAN, "nan"), (float("inf"), "inf"), (3, "3")],
)
def test_a_label_out_of_range_is_named(wrong: float, named: str) -> None:
    labels = torch.tensor([[1.0, 0.0, wrong], [0.0, 0.5, 1.0]])
    message = rf"^labels hold {named} and must be in \[0, 1\]; pass labels > 0 or rescale$"
    scores = torch.ones(2, 3)
    with pytest.raises(ValueError, match=message):
        topk_cross_entropy(scores, labels, 1)
    with pytest.raises(ValueError, match=message):
        torch.func.vmap(lambda s, y: topk_cross_entropy(s, y, 1))(scores, labels)
    with pytest.raises(ValueError, match=message):
        torch.func.vmap(torch.func.grad(lambda s, y: topk_cross_entropy(s, y, 1)))(scores, labels)


def test_wrong_types_and_shapes_of_survival_are_named() -> None:
    logits, yes = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"labels of torch.complex64 must be bool or real; pass "):
        survival_cross_entropy([logits], torch.ones(2, 3, dtype=torch.complex64), [yes], yes)
    with pytest.raises(ValueError, match=r"decides has 1 entries and must have one for each of 2"):
        survival_cross_entropy([logits, logits], yes, [yes], yes)
    with pytest.raises(ValueError, match=r"decides of torch.float32 must be torch.bool; pass deci"):
        survival_cross_entropy([logits], yes, [logits], yes)
    with pytest.raises(ValueError, match=r"counted of shape \[3\] must have the scores' shape"):
        survival_cross_entropy([logits], yes, [yes], yes[0])
