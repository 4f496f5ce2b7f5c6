"""NeuralSort, SoftSort and DiffSort under torch's transforms, compilers and number types."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from operators.diffsort import diffsort_topk
from operators.permutation import neuralsort_topk, softsort_topk

each = pytest.mark.parametrize("operator", [neuralsort_topk, softsort_topk, diffsort_topk])
Operator = Callable[..., Tensor]


def scores_of(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient(operator: Operator, scores: Tensor, *arguments: object) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (result,) = torch.autograd.grad(operator(leaf, *arguments).float().square().sum(), leaf)
    return result


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(operator: Operator, dtype: torch.dtype) -> None:
    scores = scores_of(3, 50).to(dtype)
    soft, wide = operator(scores, 10, 0.3), operator(scores.float(), 10, 0.3)
    assert soft.dtype == dtype
    assert torch.equal(soft, wide.to(dtype))
    expected = gradient(lambda s: operator(s, 10, 0.3).to(dtype), scores.float())
    assert torch.equal(gradient(operator, scores, 10, 0.3), expected.to(dtype))


@each
def test_autocast_changes_nothing(operator: Operator) -> None:
    scores = scores_of(3, 20).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        soft, slope = operator(scores, 5), gradient(operator, scores, 5)
    assert torch.equal(soft, operator(scores, 5))
    assert torch.equal(slope, gradient(operator, scores, 5))


@each
def test_vmap_over_scores_k_and_mask_equals_the_batch(operator: Operator) -> None:
    scores, k = scores_of(4, 6), torch.tensor([1, 2, 3, 6])
    mask = torch.arange(6) < torch.tensor([[6], [4], [2], [0]])
    close = torch.testing.assert_close
    close(torch.func.vmap(lambda row: operator(row, 2))(scores), operator(scores, 2))
    each_row = torch.func.vmap(lambda row, places, valid: operator(row, places, 0.5, valid))
    close(each_row(scores, k, mask), operator(scores, k, 0.5, mask))
    middle = torch.func.vmap(lambda row: operator(row, 2), in_dims=1, out_dims=1)
    close(middle(scores.T), operator(scores, 2).T)


@each
def test_functional_gradients_equal_backward(operator: Operator) -> None:
    scores = scores_of(4, 6)
    per_row = torch.func.vmap(torch.func.grad(lambda row: operator(row, 2).square().sum()))
    leaf = scores.clone().requires_grad_()
    operator(leaf, 2).square().sum().backward()
    torch.testing.assert_close(per_row(scores), leaf.grad)
    columns = torch.func.jacfwd(lambda row: operator(row, 2))(scores[0])
    torch.testing.assert_close(columns, torch.func.jacrev(lambda row: operator(row, 2))(scores[0]))


@each
def test_compiled_whole_equals_eager(operator: Operator) -> None:
    scores, k = scores_of(4, 6), torch.tensor([1, 2, 3, 6])
    mask = torch.arange(6) < torch.tensor([[6], [4], [2], [0]])
    compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
    for arguments in ((2, 0.5), (k, 0.5, mask)):
        torch.testing.assert_close(compiled(scores, *arguments), operator(scores, *arguments))
        torch.testing.assert_close(
            gradient(compiled, scores, *arguments), gradient(operator, scores, *arguments)
        )


@each
def test_exported_equals_eager_for_any_number_of_rows(operator: Operator) -> None:
    class Stage(nn.Module):
        def forward(self, scores: Tensor, k: Tensor, mask: Tensor) -> Tensor:
            return operator(scores, k, 0.5, mask)

    mask = torch.arange(6) < torch.tensor([[6], [4], [2], [0]])
    inputs = (scores_of(4, 6), torch.tensor([1, 2, 3, 6]), mask)
    rows = {0: torch.export.Dim("rows", min=2)}
    exported = torch.export.export(Stage(), inputs, dynamic_shapes=(rows, rows, rows)).module()
    torch.testing.assert_close(exported(*inputs), Stage()(*inputs))
    more = tuple(torch.cat([values, values.flip(0)]) for values in inputs)
    torch.testing.assert_close(exported(*more), Stage()(*more))
