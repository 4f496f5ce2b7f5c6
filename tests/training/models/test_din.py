"""The factored attention against the form the paper draws: one layer on the concatenation."""

import pytest
import torch
from torch import Tensor

from training.models.din import TargetAttention


def _textbook(attention: TargetAttention, query: Tensor, keys: Tensor, valid: Tensor) -> Tensor:
    """Every pair of candidate and interaction as one row (q, k, q * k) of a plain layer."""
    B, N, A = query.shape
    L = keys.shape[1]
    pairs_q = query.unsqueeze(2).expand(B, N, L, A)
    pairs_k = keys.unsqueeze(1).expand(B, N, L, A)
    pairs = torch.cat([pairs_q, pairs_k, pairs_q * pairs_k], dim=3)
    weight = torch.cat([attention.query_HA, attention.key_HA, attention.product_HA], dim=1)
    hidden = torch.nn.functional.linear(pairs, weight, attention.bias_H).relu()
    weights = attention.out(hidden).squeeze(3).masked_fill(~valid.unsqueeze(1), 0.0)
    attended: Tensor = torch.einsum("bnl,bla->bna", weights, keys) / L**0.5
    return attended


@pytest.mark.parametrize(("N", "L", "A", "H"), [(5, 7, 6, 4), (1, 1, 1, 1), (3, 1, 8, 2)])
def test_factored_attention_equals_the_textbook_form(N: int, L: int, A: int, H: int) -> None:
    attention = TargetAttention(A, H).double()
    torch.nn.init.normal_(attention.bias_H)
    inputs = [torch.randn(4, size, A, dtype=torch.float64, requires_grad=True) for size in (N, L)]
    valid = torch.arange(L) < torch.tensor([0, 1, L // 2, L]).unsqueeze(1)
    outputs = [form(*inputs, valid) for form in (attention, lambda *x: _textbook(attention, *x))]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-12)
    variables = [*inputs, *attention.parameters()]
    weight = torch.randn(4, N, A, dtype=torch.float64)
    gradients = [torch.autograd.grad((out * weight).sum(), variables) for out in outputs]
    for factored, textbook in zip(*gradients, strict=True):
        torch.testing.assert_close(factored, textbook, rtol=0, atol=1e-12)


def test_in_single_precision_too() -> None:
    attention = TargetAttention(16, 8)
    query, keys = torch.randn(3, 50, 16), torch.randn(3, 30, 16)
    valid = torch.ones(3, 30, dtype=torch.bool)
    expected = _textbook(attention, query, keys, valid)
    torch.testing.assert_close(attention(query, keys, valid), expected, rtol=1e-4, atol=1e-5)


def test_an_empty_history_is_attended_to_with_zeros() -> None:
    attention = TargetAttention(4, 2)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    attended = attention(torch.randn(2, 5, 4), torch.randn(2, 3, 4), nothing)
    assert attended.abs().sum() == 0
