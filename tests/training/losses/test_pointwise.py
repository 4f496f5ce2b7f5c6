"""Pointwise losses: numbers by hand, masks and weights."""

from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.operators.tensors import gradients, random_mask, random_stages
from training.losses import binary_cross_entropy

NAN = float("nan")


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
