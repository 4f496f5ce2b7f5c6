"""Target attention in torch operations: for any device and type, and for gradients of gradients.

Legend: B requests, N candidates, L history length, H hidden units, D width, P items of the pool.
"""

from typing import Any

import torch
from torch import Tensor

ELEMENTS = 1 << 24
"""Hidden units that are held at a time, at least those of one request."""


def target_attention(
    history_part_BLH: Tensor,
    candidate_part_PH: Tensor,
    weight_H: Tensor,
    values_BLD: Tensor,
    mask_BL: Tensor,
    picks_BN: Tensor,
) -> Tensor:
    """The same as `training.kernels.attention.target_attention`, of arguments that are right."""
    # What is behind the mask may be anything: 0 times NaN would be NaN.
    history_part_BLH = history_part_BLH.masked_fill(~mask_BL.unsqueeze(2), 0.0)
    values_BLD = values_BLD.masked_fill(~mask_BL.unsqueeze(2), 0.0)
    _, L, H = history_part_BLH.shape
    chunk = max(1, ELEMENTS // max(1, picks_BN.shape[1] * L * H))
    parts = [tensor.split(chunk) for tensor in (history_part_BLH, values_BLD, mask_BL, picks_BN)]
    attended: list[Tensor] = [
        _Recomputed.apply(history, candidate_part_PH, weight_H, values, mask, picks)  # type: ignore[no-untyped-call]
        for history, values, mask, picks in zip(*parts, strict=True)
    ]
    return torch.cat(attended)


class _Recomputed(torch.autograd.Function):
    """Attention that is computed again in backward, so that no hidden unit is kept.

    As `torch.utils.checkpoint`, which takes seconds to import what it would compile with.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(*inputs)
        return attend(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return *gradients(ctx.saved_tensors, grads[0]), None, None


def gradients(inputs: tuple[Tensor, ...], grad_BND: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the float inputs that want one; differentiable where a graph is wanted."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        out_BND = attend(*inputs)
    wanted = [x for x in inputs[:4] if x.requires_grad]
    found = iter(torch.autograd.grad(out_BND, wanted, grad_BND, create_graph=graph))
    return tuple(next(found) if x.requires_grad else None for x in inputs[:4])


def attend(
    history_BLH: Tensor,
    candidate_PH: Tensor,
    weight_H: Tensor,
    values_BLD: Tensor,
    mask_BL: Tensor,
    picks_BN: Tensor,
) -> Tensor:
    """All of it at once."""
    hidden_BNLH = (history_BLH.unsqueeze(1) + candidate_PH[picks_BN].unsqueeze(2)).relu()
    # A request without history: all its logits are the lowest, and so are finite.
    lowest = torch.finfo(weight_H.dtype).min
    logits_BNL = (hidden_BNLH @ weight_H).masked_fill(~mask_BL.unsqueeze(1), lowest)
    weights_BNL = logits_BNL.softmax(2) * mask_BL.unsqueeze(1)
    attended_BND: Tensor = weights_BNL @ values_BLD
    return attended_BND
