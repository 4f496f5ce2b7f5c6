"""Losses under torch's transforms, and through every operator."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from operators import OPERATORS, joint_cross_entropy, topk_cross_entropy
from tests.operators.tensors import gradients, random_mask, random_stages

STAGES = random_stages(2, 3, 6)
HARD = random_mask(3, 6, share=0.4)
SOFT = random_stages(3, 3, 6)[2].sigmoid()
MASK = random_mask(3, 6, share=0.8, seed=5)
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])
every_kind_of_label = pytest.mark.parametrize("labels", [HARD, SOFT], ids=["bool", "float"])


def loss_of(labels: Tensor, *stages: Tensor) -> Tensor:
    mask, weights = (MASK, WEIGHTS) if labels.dim() == 2 else (None, None)
    return joint_cross_entropy(stages, labels, [4, 2], "dftopk", 0.7, mask, (), weights)


def leaves() -> list[Tensor]:
    return [s.clone().requires_grad_() for s in STAGES]


@every_kind_of_label
def test_compiles_in_one_graph(labels: Tensor) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(loss_of, fullgraph=True, backend="aot_eager")
    ours, theirs = leaves(), leaves()
    loss, expected = compiled(labels, *ours), loss_of(labels, *theirs)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(loss, ours), gradients(expected, theirs))


@every_kind_of_label
@pytest.mark.parametrize("strict", [False, True])
def test_exports(labels: Tensor, strict: bool) -> None:
    class Loss(nn.Module):
        def forward(self, y: Tensor, first: Tensor, second: Tensor) -> Tensor:
            return loss_of(y, first, second)

    exported = torch.export.export(Loss(), (labels, *STAGES), strict=strict)
    turned = [s.flip(1) for s in STAGES]
    torch.testing.assert_close(exported.module()(labels, *turned), loss_of(labels, *turned))


@every_kind_of_label
def test_functional_gradients(labels: Tensor) -> None:
    wanted = leaves()
    expected = gradients(loss_of(labels, *wanted), wanted)
    given = torch.func.grad(loss_of, (1, 2))(labels, *STAGES)
    torch.testing.assert_close(list(given), expected)


@every_kind_of_label
def test_vmap_is_a_loss_a_row(labels: Tensor) -> None:
    vmap, grad = torch.func.vmap, torch.func.grad
    rows = [(labels[i], *[s[i] for s in STAGES]) for i in range(3)]
    torch.testing.assert_close(
        vmap(loss_of)(labels, *STAGES), torch.stack([loss_of(*row) for row in rows])
    )
    torch.testing.assert_close(
        vmap(grad(loss_of, 2))(labels, *STAGES), torch.stack([grad(loss_of, 2)(*r) for r in rows])
    )


def test_vmap_over_k_mask_and_weights() -> None:
    scores = STAGES[0]

    def loss(k: int | Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        return topk_cross_entropy(scores, SOFT, k, mask=mask, weights=weights)

    masks, weights = random_mask(7, 3, 6, share=0.7), random_stages(1, 7, 3)[0].exp()
    expected = [loss(k, masks[k], weights[k]) for k in range(7)]
    torch.testing.assert_close(
        torch.func.vmap(loss)(torch.arange(7), masks, weights), torch.stack(expected)
    )


def test_autocast_changes_nothing() -> None:
    narrow = [s.float().requires_grad_() for s in STAGES]
    expected = loss_of(SOFT, *narrow)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(SOFT, *narrow)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    for one, other in zip(gradients(loss, narrow), gradients(expected, narrow), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("operator", [n for n, o in OPERATORS.items() if o.trainable])
@pytest.mark.parametrize("masked", [False, True])
def test_trains_through_every_operator(operator: str, masked: bool) -> None:
    mask = MASK if masked else None

    def loss(*stages: Tensor) -> Tensor:
        return joint_cross_entropy(stages, SOFT, [torch.tensor([3, 4, 2]), 2], operator, 1.2, mask)

    wanted = leaves()
    assert gradcheck(loss, wanted)
    assert gradgradcheck(loss, wanted)
    assert all(g.abs().amax() > 1e-4 for g in gradients(loss(*wanted), wanted))


@pytest.mark.parametrize("operator", [n for n, o in OPERATORS.items() if o.trainable])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_wrong_and_certain_is_finite_through_every_operator(
    operator: str, dtype: torch.dtype
) -> None:
    scores = torch.tensor([1e4, 30.0, 10.0, -10.0, -1e4], dtype=dtype, requires_grad=True)
    for labels in (scores > 20, scores < 20):
        loss = topk_cross_entropy(scores, labels, 2, operator)
        (gradient,) = gradients(loss, [scores])
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("operator", ["dftopk", "lapsum", "logistic_topk", "sparse_topk"])
def test_a_threshold_turns_the_order_round(operator: str) -> None:
    scores = (0.1 * random_stages(1, 4, 8)[0]).requires_grad_()
    labels = torch.zeros(4, 8, dtype=torch.bool).scatter(
        1, scores.topk(3, largest=False).indices, True
    )
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        topk_cross_entropy(scores, labels, 3, operator, 0.5).backward()
        optimizer.step()
    assert scores[labels].reshape(4, 3).amin(1).gt(scores.masked_fill(labels, -9).amax(1)).all()
