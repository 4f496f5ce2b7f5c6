"""Every operator under torch's transforms: vmap, grad, compile, export, autocast."""

import pytest
import torch
from torch import Tensor, nn

from operators import dftopk
from tests.operators.forms import (
    FORMS,
    SOFT,
    Form,
    every_form,
    every_soft_form,
    every_traced_form,
    scores_of,
)

SCORES = scores_of(3, 6)
MASK = scores_of(3, 6, seed=1) > -0.8
K = torch.tensor([2, 3, 1])


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


@every_form
def test_vmap_over_scores(form: Form) -> None:
    vmap = torch.func.vmap
    close(vmap(lambda s: form.call(s, 2, 0.5))(SCORES), form.call(SCORES, 2, 0.5))
    grid = torch.stack([SCORES, SCORES + SCORES.flip(0), -SCORES])
    close(
        vmap(lambda s: form.call(s, K, 0.5, MASK))(grid),
        form.call(grid, K, 0.5, MASK.expand(3, 3, 6)),
    )
    close(vmap(vmap(lambda s: form.call(s, 2, 0.5)))(grid), form.call(grid, 2, 0.5))
    close(
        vmap(lambda s: form.call(s, 2, 0.5), in_dims=1, out_dims=1)(grid),
        form.call(grid, 2, 0.5),
    )


@every_form
def test_vmap_over_k_and_mask(form: Form) -> None:
    vmap = torch.func.vmap
    ks = torch.arange(-1, 8)
    expected = torch.stack([form.call(SCORES, k, 0.5) for k in range(-1, 8)])
    close(vmap(lambda k: form.call(SCORES, k, 0.5))(ks), expected)
    masks = torch.stack([MASK, ~MASK, torch.ones_like(MASK)])
    expected = torch.stack([form.call(SCORES, 2, 0.5, m) for m in masks])
    close(vmap(lambda m: form.call(SCORES, 2, 0.5, m))(masks), expected)
    together = vmap(lambda s, k, m: form.call(s, k, 0.5, m))(SCORES, K, MASK)
    close(together, form.call(SCORES, K, 0.5, MASK))


@every_soft_form
def test_grad_and_vmap_of_grad(form: Form) -> None:
    upstream = scores_of(3, 6, seed=4)
    leaf = SCORES.clone().requires_grad_()
    total = (form.call(leaf, K, 0.5, MASK) * upstream).sum()
    (expected,) = torch.autograd.grad(total, leaf)

    def loss(s: Tensor, k: Tensor, m: Tensor, u: Tensor) -> Tensor:
        return (form.call(s, k, 0.5, m) * u).sum()

    close(torch.func.grad(loss)(SCORES, K, MASK, upstream), expected)
    close(torch.func.vmap(torch.func.grad(loss))(SCORES, K, MASK, upstream), expected)
    jacobian = torch.func.jacrev(lambda s: form.call(s, K, 0.5, MASK))(SCORES)
    close((jacobian * upstream[:, :, None, None]).sum((0, 1)), expected)


@every_traced_form
@pytest.mark.parametrize("masked", [False, True])
def test_compiles_in_one_graph(form: Form, masked: bool) -> None:
    torch._dynamo.reset()
    mask, k = (MASK, K) if masked else (None, 2)

    def call(s: Tensor) -> Tensor:
        return form.call(s, k, 0.5, mask).square()

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    ours, theirs = (SCORES.clone().requires_grad_(form.soft) for _ in range(2))
    actual, expected = compiled(ours), call(theirs)
    close(actual.detach(), expected.detach())
    if form.soft:
        (gradient,) = torch.autograd.grad(actual.sum(), ours)
        (exact,) = torch.autograd.grad(expected.sum(), theirs)
        close(gradient, exact)


@pytest.mark.slow
def test_compiles_to_machine_code() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda s: dftopk(s, 2, 0.5), fullgraph=True)
    ours, theirs = SCORES.clone().requires_grad_(), SCORES.clone().requires_grad_()
    actual, expected = compiled(ours), dftopk(theirs, 2, 0.5)
    close(actual.detach(), expected.detach())
    upstream = scores_of(3, 6, seed=4)
    (gradient,) = torch.autograd.grad((actual * upstream).sum(), ours)
    (exact,) = torch.autograd.grad((expected * upstream).sum(), theirs)
    close(gradient, exact)


class Calls(nn.Module):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        return self.form.call(scores, 2, 0.5, mask)


@every_traced_form
def test_exports(form: Form) -> None:
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(
        Calls(form), (SCORES, MASK), dynamic_shapes=({0: rows}, {0: rows})
    )
    more, mask = scores_of(7, 6, seed=5), scores_of(7, 6, seed=6) > -0.5
    close(exported.module()(more, mask), form.call(more, 2, 0.5, mask))


@every_form
def test_autocast_changes_nothing(form: Form) -> None:
    scores = SCORES.float().requires_grad_(form.soft)
    expected = form.call(scores, 2, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        values = form.call(scores, 2, 0.5)
        halves = form.call(scores.bfloat16(), 2, 0.5)
    assert torch.equal(values, expected)
    assert halves.dtype == torch.bfloat16
    if form.soft:
        once, twice = (torch.autograd.grad(v.square().sum(), scores)[0] for v in (expected, values))
        assert torch.equal(once, twice)


def test_there_are_operators_to_test() -> None:
    assert len(FORMS) > len(SOFT) > 1
