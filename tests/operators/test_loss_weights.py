"""Weights of rows in losses: a weighted mean, by hand and by its laws."""

import re
from math import exp, log

import pytest
import torch

from operators import joint_cross_entropy, survival_cross_entropy, topk_cross_entropy
from tests.operators.tensors import gradients, random_mask, random_stages

NAN = float("nan")


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
    message = rf"^weights of shape {re.escape(str(list(shape)))} must be \[2\], one a row; "
    weights = torch.ones(shape)
    with pytest.raises(ValueError, match=message):
        topk_cross_entropy(scores, labels, 1, weights=weights)
    with pytest.raises(ValueError, match=message):
        joint_cross_entropy([scores], labels, [1], weights=weights)
    with pytest.raises(ValueError, match=message):
        survival_cross_entropy([scores], labels, [labels], labels, weights)
