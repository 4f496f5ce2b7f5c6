"""Rows of an embedding table: gathered, their gradients summed, and moved against them.

Time and memory go with what is touched, never with the size of the table, and results do not depend
on the number of threads.

Legend: X places in a batch, F columns of row numbers, D width of a row, R rows of the table, U
touched rows, each once.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from training.kernels.library import loaded, on_large_pages, takes

COUNTED = torch.iinfo(torch.int16).max
"""Where a row's count of gradients stops."""
_ENTRIES = 1 << 32
"""Numbers that an entry may have."""


class Columns(NamedTuple):
    """What the columns of a matrix of row numbers mean."""

    fields: tuple[int, ...]
    """The field of each, the same where two columns share one."""
    offsets: tuple[int, ...]
    """First row of each column's field in the table."""
    sizes: tuple[int, ...]
    """Rows of it; row 0 is unknown."""


class Touched(NamedTuple):
    """What was gathered, and the gradient of it."""

    rows_XF: Tensor
    """int32 [X, F], contiguous."""
    grads_XK: Tensor
    """Float [X, F * D], contiguous."""
    columns: Columns


def gather(weight_RD: Tensor, rows_XF: Tensor, columns: Columns) -> Tensor:
    """Rows of the table side by side, 0 for the unknown row and those beyond a field's last.

    Args:
        weight_RD: float [R, D], contiguous.
        rows_XF: int32 [X, F], contiguous.
        columns: of the row numbers.

    Returns:
        Float [X, F * D].
    """
    X, F = rows_XF.shape
    D = weight_RD.shape[1]
    if not takes(weight_RD):
        places_XF, known_XF = _places(rows_XF, columns)
        return (weight_RD[places_XF] * known_XF.unsqueeze(2)).view(X, F * D)
    out_XK = weight_RD.new_empty(X, F * D)
    loaded().cascade_gather(
        *(weight_RD.data_ptr(), rows_XF.data_ptr()),
        *(_int64s(columns.offsets), _int64s(columns.sizes), X, F, D),
        *(out_XK.data_ptr(), torch.get_num_threads()),
    )
    return out_XK


def coalesce(batches: Sequence[Touched], width: int) -> tuple[Tensor, Tensor]:
    """Sum gradients by row.

    Args:
        batches: at least one; columns of the same field may be in several. A row's gradients are
            added in the order of the batches.
        width: D.

    Returns:
        Touched rows int64 [U] of the table, ascending, and their gradients float [U, D].
    """
    if not takes(*(batch.grads_XK for batch in batches)):
        return _coalesce(batches, width)
    columns = Columns(
        *(sum(parts, ()) for parts in zip(*(b.columns for b in batches), strict=True))
    )
    fields = {field: (offset, size) for field, offset, size in zip(*columns, strict=True)}
    order = sorted(fields, key=lambda field: fields[field])
    rows, grads, row_steps, grad_steps, counts = [], [], [], [], []
    entries = dict.fromkeys(fields, 0)
    for rows_XF, grads_XK, (names, _, _) in batches:
        X, F = rows_XF.shape
        for column, field in enumerate(names):
            rows.append(rows_XF.data_ptr() + 4 * column)
            grads.append(grads_XK.data_ptr() + 4 * column * width)
            entries[field] += X
        row_steps += F * [F]
        grad_steps += F * [F * width]
        counts += F * [X]
    if max(entries.values(), default=0) >= _ENTRIES:
        raise ValueError(f"one field has {max(entries.values())} entries; use a smaller batch")
    most = sum(min(entries[field], fields[field][1] - 1) for field in order)
    rows_U = torch.empty(most, dtype=torch.int64)
    grads_UD = on_large_pages(torch.empty(most, width))
    count = loaded().cascade_coalesce(
        *(_pointers(rows), _int64s(row_steps), _pointers(grads), _int64s(grad_steps)),
        *(_int64s(counts), _int64s([order.index(field) for field in columns.fields]), len(rows)),
        *(_int64s([fields[f][0] for f in order]), _int64s([fields[f][1] for f in order])),
        *(len(order), width, rows_U.data_ptr(), grads_UD.data_ptr(), torch.get_num_threads()),
    )
    if count < 0:
        raise MemoryError("no memory to sum the embedding's gradients; use a smaller batch")
    return rows_U[:count], grads_UD[:count]


def update(
    weight_RD: Tensor,
    moment_R: Tensor,
    counts_R: Tensor | None,
    rates: Tensor | None,
    rows_U: Tensor,
    grads_UD: Tensor,
    lr: float,
    eps: float,
) -> None:
    """Move rows against their gradients, and the state of these rows, in place.

    A row's moment m takes the mean square q of its gradient: m + q, or m + rates[n] * (q - m) for
    the n-th gradient of that row. Then the row moves by -lr / (sqrt(m) + eps) times the gradient.

    Args:
        weight_RD: float [R, D], contiguous.
        moment_R: float [R], contiguous.
        counts_R: int16 [R], how many gradients each row has had; None with `rates`.
        rates: float [COUNTED + 1]; None: moments are sums.
        rows_U: int64 [U], distinct, in [0, R).
        grads_UD: float [U, D], contiguous.
        lr: learning rate.
        eps: above 0.
    """
    if takes(weight_RD, moment_R, grads_UD):
        loaded().cascade_update(
            *(weight_RD.data_ptr(), moment_R.data_ptr(), _address(counts_R), _address(rates)),
            *(rows_U.data_ptr(), grads_UD.data_ptr(), *grads_UD.shape),
            *(lr, eps, torch.get_num_threads()),
        )
        return
    moment_U, square_U = moment_R[rows_U], grads_UD.square().mean(1)
    if counts_R is None or rates is None:
        moment_U = moment_U + square_U
    else:
        counts_U = (counts_R[rows_U].long() + 1).clamp(max=COUNTED)
        counts_R[rows_U] = counts_U.to(counts_R.dtype)
        moment_U = moment_U + rates[counts_U] * (square_U - moment_U)
    moment_R[rows_U] = moment_U
    weight_RD[rows_U] -= (lr / (moment_U.sqrt() + eps)).unsqueeze(1) * grads_UD


def _coalesce(batches: Sequence[Touched], width: int) -> tuple[Tensor, Tensor]:
    places, grads = [], []
    for rows_XF, grads_XK, columns in batches:
        places_XF, known_XF = _places(rows_XF, columns)
        places.append(places_XF[known_XF])
        grads.append(grads_XK.view(*rows_XF.shape, width)[known_XF])
    rows_U, inverse = torch.cat(places).unique(return_inverse=True)
    sums_UD = grads[0].new_zeros(len(rows_U), width)
    return rows_U, sums_UD.index_add_(0, inverse, torch.cat(grads))


def _places(rows_XF: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """Row numbers of the table, and whether they are known, both [X, F]."""
    offsets_F = torch.tensor(columns.offsets, device=rows_XF.device)
    sizes_F = torch.tensor(columns.sizes, device=rows_XF.device)
    known_XF = (rows_XF > 0) & (rows_XF < sizes_F)
    return torch.where(known_XF, rows_XF, 0) + offsets_F, known_XF


def _int64s(numbers: Sequence[int]) -> "ctypes.Array[ctypes.c_int64]":
    return (ctypes.c_int64 * len(numbers))(*numbers)


def _pointers(addresses: Sequence[int]) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * len(addresses))(*addresses)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
