"""Embedding whose gradient is the rows that a batch touched.

Legend: X any leading dimensions, F fields, D width of one field, R rows of the table, U touched
rows, each once.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from training.kernels.library import on_large_pages
from training.kernels.rows import Columns, Touched, coalesce, gather

_INT32 = torch.iinfo(torch.int32).max


class SparseEmbedding(nn.Module):
    """One table for several fields, their embeddings side by side; row 0 of a field is unknown.

    The table is a buffer, not a parameter: what is backpropagated is collected as touched rows,
    over all calls since `zero_gradient`, and moved by `training.optimizer.RowwiseOptimizer`. A step
    so takes time and memory for what a batch touches, whatever the size of the table.
    """

    def __init__(
        self,
        vocabularies: Sequence[int],
        width: int,
        generator: torch.Generator,
        std: float = 0.05,
    ) -> None:
        """Make a table of normally distributed rows, the unknown ones 0.

        Args:
            vocabularies: rows of each field, row 0 included.
            width: columns of each field.
            generator: on the CPU; the table is a function of its state and the arguments.
            std: standard deviation. Small, so that a row seen once stays near the unknown row, 0;
                `torch.nn.Embedding` has 1.

        Raises:
            ValueError: no field, a field without rows, too many rows, or a number out of range.
        """
        super().__init__()
        if not vocabularies:
            raise ValueError("vocabularies is empty; there must be at least one field")
        if width < 1:
            raise ValueError(f"width == {width} must be at least 1")
        if not 0 <= std < float("inf"):
            raise ValueError(f"std == {std} must be at least 0 and finite")
        self.width = width
        self.std = std
        self.vocabularies: tuple[int, ...] = len(vocabularies) * (0,)
        """Rows of each field, row 0 included."""
        self.register_buffer("weight_RD", torch.empty(0, width))
        self.weight_RD: Tensor
        self._seed = int(torch.randint(1 << 62, (), generator=generator))
        # Autograd calls a function's backward only if an argument wants a gradient.
        self._anchor = torch.zeros(0, requires_grad=True)
        self._touched: list[Touched] = []
        self._gradient: tuple[Tensor, Tensor] | None = None
        self.grow(vocabularies)

    def grow(self, vocabularies: Sequence[int]) -> None:
        """Add rows to the end of fields; the others, and what they hold, stay.

        Collected gradients are forgotten.

        Args:
            vocabularies: rows of each field, at least as many as there are.

        Raises:
            ValueError: another number of fields, fewer rows, or more than int32 can number.
        """
        old, new = self.vocabularies, tuple(vocabularies)
        if len(new) != len(old):
            raise ValueError(f"vocabularies has {len(new)} fields and must have {len(old)}")
        for field, (before, after) in enumerate(zip(old, new, strict=True)):
            if after < max(before, 1):
                raise ValueError(
                    f"vocabularies[{field}] == {after} must be at least {max(before, 1)}; rows are "
                    "only ever added"
                )
        if sum(new) > _INT32:
            raise ValueError(f"vocabularies sum to {sum(new)}; at most {_INT32} rows are possible")
        generator = torch.Generator().manual_seed(self._seed ^ sum(old))
        table_RD = on_large_pages(torch.empty(sum(new), self.width))
        start, old_start = 0, 0
        for before, after in zip(old, new, strict=True):
            kept, added = table_RD[start : start + before], table_RD[start + before : start + after]
            kept.copy_(self.weight_RD[old_start : old_start + before])
            added.normal_(std=self.std, generator=generator)
            table_RD[start] = 0.0
            start, old_start = start + after, old_start + before
        self.weight_RD = table_RD.to(self.weight_RD)
        self.vocabularies = new
        self.zero_gradient()

    def forward(self, rows_XF: Tensor, fields: Sequence[int] | None = None) -> Tensor:
        """Embed rows.

        Args:
            rows_XF: int32 (faster) or int64 [..., F]. The unknown row 0, and what is not a row of
                its field, gives zeros and gets no gradient.
            fields: the field of each column, for calls that have some of them; all if left out.

        Returns:
            Float [..., F * D].

        Raises:
            ValueError: another type, another number of columns, or a field that does not exist.
        """
        columns = self._columns(fields)
        if rows_XF.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"rows of {rows_XF.dtype} must be torch.int32 or torch.int64")
        if rows_XF.dim() == 0 or rows_XF.shape[-1] != len(columns.fields):
            raise ValueError(
                f"rows of shape {list(rows_XF.shape)} must end in {len(columns.fields)}, a column "
                "for each field"
            )
        leading, F = rows_XF.shape[:-1], rows_XF.shape[-1]
        if rows_XF.dtype == torch.int64:
            rows_XF = rows_XF.clamp(0, _INT32).int()
        rows_XF = rows_XF.reshape(-1, F).contiguous()
        embedded: Tensor = _Gather.apply(self._anchor, self, rows_XF, columns)  # type: ignore[no-untyped-call]
        return embedded.view(*leading, F * self.width)

    def _columns(self, fields: Sequence[int] | None) -> Columns:
        chosen = tuple(range(len(self.vocabularies)) if fields is None else fields)
        for field in chosen:
            if not 0 <= field < len(self.vocabularies):
                raise ValueError(f"fields has {field}; it must be in [0, {len(self.vocabularies)})")
        starts = tuple(accumulate(self.vocabularies, initial=0))
        return Columns(
            chosen,
            tuple(starts[field] for field in chosen),
            tuple(self.vocabularies[field] for field in chosen),
        )

    def gradient(self) -> tuple[Tensor, Tensor] | None:
        """Touched rows int64 [U] of the table, ascending, and their gradients float [U, D].

        None if nothing was backpropagated since `zero_gradient`.
        """
        if self._touched:
            found = coalesce(self._touched, self.width)
            if self._gradient is not None:
                found = self._summed(*map(torch.cat, zip(self._gradient, found, strict=True)))
            self._touched, self._gradient = [], found
        return self._gradient

    def set_gradient(self, rows: Tensor, grads: Tensor) -> None:
        """Replace what was collected, by the gradients of all processes for example.

        Args:
            rows: int64 [U], rows of the table; the gradients of one that repeats are summed.
            grads: float [U, D].

        Raises:
            ValueError: another type or shape, or a row out of range.
        """
        if rows.dtype != torch.int64 or rows.dim() != 1:
            raise ValueError(
                f"rows of {rows.dtype} and shape {list(rows.shape)} must be torch.int64 [rows]"
            )
        if grads.dtype != self.weight_RD.dtype or grads.shape != (len(rows), self.width):
            raise ValueError(
                f"grads of {grads.dtype} and shape {list(grads.shape)} must be "
                f"{self.weight_RD.dtype} [{len(rows)}, {self.width}]"
            )
        for row in (int(bound) for bound in rows.aminmax()) if len(rows) else ():
            if not 0 <= row < len(self.weight_RD):
                raise ValueError(f"rows has {row}; it must be in [0, {len(self.weight_RD)})")
        self._touched, self._gradient = [], (rows.contiguous(), grads.contiguous())
        if not bool((rows[1:] > rows[:-1]).all()):
            self._gradient = self._summed(rows, grads)

    def _summed(self, rows: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
        whole = Columns((0,), (0,), (len(self.weight_RD),))
        return coalesce([Touched(rows.int().unsqueeze(1), grads.contiguous(), whole)], self.width)

    def zero_gradient(self) -> None:
        """Forget what was collected."""
        self._touched, self._gradient = [], None

    def get_extra_state(self) -> Tensor:
        """The vocabularies, int64 [F]."""
        return torch.tensor(self.vocabularies)

    def set_extra_state(self, state: Tensor) -> None:
        """Check the vocabularies of what is loaded.

        Raises:
            ValueError: they are not those of this table.
        """
        if tuple(state.tolist()) != self.vocabularies:
            raise ValueError(
                f"the table to load has vocabularies {state.tolist()} and this one "
                f"{list(self.vocabularies)}; make this one with the same, or grow it first"
            )


class _Gather(torch.autograd.Function):
    """Rows of the table; their gradient is left with the embedding."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        anchor: Tensor,  # noqa: ARG004
        embedding: SparseEmbedding,
        rows_XF: Tensor,
        columns: Columns,
    ) -> Tensor:
        ctx.embedding, ctx.rows, ctx.columns = embedding, rows_XF, columns
        return gather(embedding.weight_RD, rows_XF, columns)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None, None]:  # noqa: ANN401
        touched = Touched(ctx.rows, grads[0].detach().contiguous(), ctx.columns)
        ctx.embedding._touched.append(touched)
        return None, None, None, None
