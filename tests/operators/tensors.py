"""Random scores, labels and masks, and the gradients of a loss."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
