"""The loss in closed form against autograd through the steps, where there is no kernel."""

import pytest
import torch
from torch import Tensor

from operators import dftopk_logits, topk_cross_entropy
from operators.kernels import cpu
from operators.kernels.torch_cross_entropy import Batch, cross_entropy


def case(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    b, n = (int(torch.randint(1, limit, (), generator=generator)) for limit in (6, 50))
    scores = torch.randn(b, n, generator=generator, dtype=torch.float64)
    if seed % 3 == 0:
        scores = (2 * scores).round()
    places = torch.randint(-1, n + 2, (b,), generator=generator)
    return Batch(
        scores,
        torch.rand(b, n, generator=generator) < 0.4,
        places if seed % 2 else None,
        int(places[0]),
        (1.0, 0.3)[seed % 5 == 0],
        torch.rand(b, n, generator=generator) < 0.7 if seed % 4 > 1 else None,
        torch.rand(b, generator=generator, dtype=torch.float64) if seed % 7 == 0 else None,
    )


def through_logits(batch: Batch) -> tuple[Tensor, Tensor]:
    scores, labels, ks, k, tau, mask, weights = batch
    b = len(scores)
    leaf = scores.clone().requires_grad_()
    places = torch.full((b, 1), k) if ks is None else ks.unsqueeze(1)
    valid = torch.ones_like(labels) if mask is None else mask
    counts = valid & (places > 0) & (places < valid.sum(-1, keepdim=True))
    each = counts * (1.0 if weights is None else weights.unsqueeze(-1))
    logits = dftopk_logits(leaf, places.squeeze(1), tau, mask)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels.double(), reduction="none"
    )
    total = each.sum()
    loss = (losses * each).sum() / (total if total > 0 else 1.0)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("seed", range(60))
def test_closed_form_equals_autograd(seed: int) -> None:
    batch = case(seed)
    found, right = cross_entropy(batch, True), through_logits(batch)
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(cross_entropy(batch, False)[0], right[0])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_callers_get_it_where_there_is_no_kernel(
    kernels: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels:
        monkeypatch.setattr(cpu, "takes", lambda _: False)
    batch = case(8)
    scores = (batch.scores * 8).round() / 8  # exact in every type
    right, slopes = through_logits(batch._replace(scores=scores))
    leaf = scores.to(dtype).requires_grad_()
    loss = topk_cross_entropy(leaf, batch.labels, batch.k, tau=batch.tau)
    (2 * loss).backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == dtype
    precision = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(leaf.grad.double(), 2 * slopes, rtol=precision, atol=precision)
    torch.testing.assert_close(loss.double().detach(), right, rtol=1e-6, atol=0)


def test_a_second_backward_gives_the_same_and_shares_no_memory() -> None:
    leaf = case(8).scores.float().requires_grad_()
    loss = topk_cross_entropy(leaf, leaf > 0.5, 3)
    loss.backward(retain_graph=True)
    assert leaf.grad is not None
    first = leaf.grad.clone()
    leaf.grad.zero_()
    loss.backward()
    assert torch.equal(leaf.grad, first)
