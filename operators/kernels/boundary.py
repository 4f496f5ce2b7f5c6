"""The two values between which a top-k cut lies, in O(N) and without gradient.

Legend: ... any leading dimensions ("rows"), N candidates.
"""

from typing import Any

import torch
from torch import Tensor

from operators.kernels import cpu


def boundary(ranked: Tensor, k: int | Tensor) -> tuple[Tensor, Tensor]:
    """The k-th and (k+1)-th largest of each row; any numbers where k is outside [1, N - 1].

    Args:
        ranked: float32 or float64 [..., N], N at least 2.
        k: an int, or int64 that broadcasts to [..., 1].

    Returns:
        [..., 1] each, without gradient; both NaN in a row with a NaN.
    """
    ks, k = (k, 0) if isinstance(k, Tensor) else (None, k)
    upper, lower = _boundary(ranked, ks, k)
    return upper, lower


def find(ranked: Tensor, ks: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """`boundary` at once, for tensors that hold numbers; ks or k."""
    n = ranked.shape[-1]
    shape = (*ranked.shape[:-1], 1)
    rows = ranked.reshape(-1, n).contiguous()
    k = min(max(k, 1), n - 1)
    if ks is not None:
        ks = ks.clamp(1, n - 1).expand(shape).reshape(-1).contiguous()
    if not len(rows):
        return ranked.new_empty(shape), ranked.new_empty(shape)
    upper, lower = cpu.boundary(rows, ks, k) if cpu.takes(rows) else _by_topk(rows, ks, k)
    return upper.reshape(shape), lower.reshape(shape)


def _by_topk(rows: Tensor, ks: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Torch operations only; ks in [1, N - 1]."""
    if ks is None:
        top = rows.topk(k + 1, sorted=False).values
        least = top.min(-1, keepdim=True)
        lower = least.values.squeeze(-1)
        upper = top.scatter(-1, least.indices, torch.inf).amin(-1)
    else:
        top = rows.topk(int(ks.max()) + 1).values
        upper, lower = top.gather(-1, torch.stack([ks - 1, ks], -1)).unbind(-1)
    # topk ranks NaN above everything: if a row holds one, it is among the top.
    nan = top.isnan().any(-1)
    return upper.masked_fill(nan, torch.nan), lower.masked_fill(nan, torch.nan)


_boundary = torch.library.custom_op("cascade::boundary", find, mutates_args=())


@_boundary.register_fake
def _(ranked: Tensor, ks: Tensor | None, k: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    shape = (*ranked.shape[:-1], 1)
    return ranked.new_empty(shape), ranked.new_empty(shape)


def batched(
    size: int, in_dims: tuple[int | None, ...], rows: Tensor, ks: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Arguments of a row-wise operation under vmap, with the batch as first dimension of all.

    Args:
        size: of the batch.
        in_dims: where rows and ks have it; None where they do not.
        rows: [..., N] and the batch.
        ks: broadcasts to [..., 1], and the batch.
    """
    first = in_dims[0]
    rows = rows.expand(size, *rows.shape) if first is None else rows.movedim(first, 0)
    if ks is not None and in_dims[1] is not None:
        ks = ks.movedim(in_dims[1], 0)
        ks = ks.reshape(size, *[1] * (rows.dim() - ks.dim()), *ks.shape[1:])
    return rows, ks


@_boundary.register_vmap
def _(
    info: Any,  # noqa: ANN401  # torch has no public name for its type
    in_dims: tuple[int | None, ...],
    ranked: Tensor,
    ks: Tensor | None,
    k: int,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    return _boundary(*batched(info.batch_size, in_dims, ranked, ks), k), (0, 0)
