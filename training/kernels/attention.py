"""Target attention: what a request's history says about each of its candidates.

Legend: B requests, N candidates, L history length, H hidden units, D width, P items of the pool.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from training.kernels import torch_attention
from training.kernels.library import instruction_set, loaded, takes


def target_attention(
    history_part_BLH: Tensor,
    candidate_part_PH: Tensor,
    weight_H: Tensor,
    values_BLD: Tensor,
    mask_BL: Tensor,
    picks_BN: Tensor,
) -> Tensor:
    """Attend from candidates to histories.

    For request b and candidate p = picks[b, n] the weights are the softmax, over the valid l, of
    `weight . relu(history_part[b, l] + candidate_part[p])`. That is the attention of the Deep
    Interest Network (Zhou et al., 2018, section 4.3) with a softmax: a linear layer over the
    concatenation of the two is a sum of a layer over each, which need not be made for each pair. A
    bias after `weight` would be the same for the whole history, and change nothing.

    Nothing of the size of B * N * L * H is ever held. Memory is that of the arguments, the result
    and, where a gradient is wanted, the weights [B, N, L]. The gradient does not depend on the
    number of threads.

    Args:
        history_part_BLH: float [B, L, H], finite.
        candidate_part_PH: float [P, H], finite.
        weight_H: float [H].
        values_BLD: float [B, L, D].
        mask_BL: bool [B, L], True where there is a behaviour; the others cost next to nothing.
        picks_BN: int64 [B, N], each request's candidates as places in [0, P); they may repeat.

    Returns:
        Float [B, N, D], float64 if an argument is and float32 otherwise: the sum over l of weight
        times value; 0 for a request without behaviour.

    Raises:
        ValueError: an argument of a wrong type, shape or device, or a pick out of range.
    """
    floats = (history_part_BLH, candidate_part_PH, weight_H, values_BLD)
    _check(*floats, mask_BL, picks_BN)
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in floats), torch.float32)
    with torch.autocast(weight_H.device.type, enabled=False):
        history, candidates, weight, values = (tensor.to(dtype) for tensor in floats)
        inputs = (history, candidates, weight, values)
        # Nothing to sum: the twin knows how to be empty.
        if not takes(*inputs) or min(*history_part_BLH.shape, *picks_BN.shape) == 0:
            return torch_attention.target_attention(*inputs, mask_BL, picks_BN)
        graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        attended: Tensor = _TargetAttention.apply(*inputs, mask_BL, picks_BN, graph)  # type: ignore[no-untyped-call]
    return attended


class _TargetAttention(torch.autograd.Function):
    """Both ways by the compiled kernels; only a gradient of the gradient needs the twin."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # noqa: ANN401
        *tensors, graph = arguments
        inputs = [tensor.contiguous() for tensor in tensors]
        values_BLD, (B, N) = inputs[3], inputs[5].shape
        out_BND: Tensor = values_BLD.new_empty(B, N, values_BLD.shape[2])
        weights_BNL = values_BLD.new_empty(B, N, values_BLD.shape[1]) if graph else None
        failed = loaded().cascade_attention(
            *_addresses_and_sizes(inputs),
            *(None if weights_BNL is None else weights_BNL.data_ptr(), out_BND.data_ptr()),
            *(instruction_set(), torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the attention; use a smaller batch")
        ctx.save_for_backward(*inputs, weights_BNL)
        return out_BND

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        *inputs, weights_BNL = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *torch_attention.gradients(tuple(inputs), grads[0]), None, None, None
        made = [torch.empty_like(x) for x in inputs[:4]]
        history_BLH, candidates_PH, weight_H, values_BLD = made
        candidates_PH.zero_()
        failed = loaded().cascade_attention_backward(
            *_addresses_and_sizes(inputs),
            *(weights_BNL.data_ptr(), grads[0].contiguous().data_ptr()),
            *(x.data_ptr() for x in (history_BLH, candidates_PH, weight_H, values_BLD)),
            *(instruction_set(), torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the attention's gradient; use a smaller batch")
        return *made, None, None, None


def _addresses_and_sizes(inputs: list[Tensor]) -> tuple[int, ...]:
    history_BLH, *_, values_BLD, _, picks_BN = inputs
    B, L, H = history_BLH.shape
    sizes = (B, picks_BN.shape[1], L, H, values_BLD.shape[2])
    return *(tensor.data_ptr() for tensor in inputs), *sizes


def _check(
    history_BLH: Tensor,
    candidates_PH: Tensor,
    weight_H: Tensor,
    values_BLD: Tensor,
    mask_BL: Tensor,
    picks_BN: Tensor,
) -> None:
    if history_BLH.dim() != 3:
        raise ValueError(
            f"history_part of shape {list(history_BLH.shape)} must be [requests, length, units]"
        )
    B, L, H = history_BLH.shape
    shaped = {
        "candidate_part": (candidates_PH, (None, H)),
        "weight": (weight_H, (H,)),
        "values": (values_BLD, (B, L, None)),
        "mask": (mask_BL, (B, L)),
        "picks": (picks_BN, (B, None)),
    }
    for name, (tensor, shape) in shaped.items():
        sizes = zip(tensor.shape, shape, strict=False)
        if tensor.dim() != len(shape) or any(want not in (None, size) for size, want in sizes):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(
                f"{name} of shape {list(tensor.shape)} must be [{wanted}] with a history_part of "
                f"shape {list(history_BLH.shape)}"
            )
        if tensor.device != history_BLH.device:
            raise ValueError(
                f"{name} on {tensor.device} must be where history_part is, on {history_BLH.device}"
            )
    floats = {"history_part": history_BLH, **{name: shaped[name][0] for name in list(shaped)[:3]}}
    for name, tensor in floats.items():
        if not tensor.is_floating_point():
            raise ValueError(
                f"{name} of {tensor.dtype} must be floating point; pass {name}.float()"
            )
    if mask_BL.dtype != torch.bool:
        raise ValueError(f"mask of {mask_BL.dtype} must be torch.bool; pass mask > 0")
    if picks_BN.dtype != torch.int64:
        raise ValueError(f"picks of {picks_BN.dtype} must be torch.int64; pass picks.long()")
    _check_range(picks_BN, len(candidates_PH))


def _check_range(picks_BN: Tensor, items: int) -> None:
    if picks_BN.numel() == 0:
        return
    for pick in (int(bound) for bound in picks_BN.aminmax()):
        if not 0 <= pick < items:
            raise ValueError(
                f"picks has {pick}; it must be in [0, {items}) for a candidate_part of {items} rows"
            )
