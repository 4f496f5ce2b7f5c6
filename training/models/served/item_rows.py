"""Rows of a served stage's item tables, and what a row is computed from.

Legend: R item rows (the unknown item, the items, the spare rows), N rows that are written,
F item fields, X columns, V snapshot values.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.models.item import ItemFeatures

CHUNK_ROWS = 65_536
"""So many rows are computed at once when tables are filled."""


class KnownItems(NamedTuple):
    """What is known of every row at export; spare rows are copies of the unknown item."""

    fields_RF: Tensor
    """int64 [R, F]"""
    values_RV: Tensor
    """float32 [R, V], of the newest snapshot."""


def known_items(items: ItemFeatures, spare_rows: int) -> KnownItems:
    """Rows of a trained stage, followed by spare ones."""
    return KnownItems(
        with_spare_rows(items.fields_IF, spare_rows),
        with_spare_rows(items.snapshots_SIX[-1], spare_rows),
    )


def with_spare_rows(table: Tensor, spare_rows: int) -> Tensor:
    """A table of items, followed by copies of its row 0, the unknown item."""
    spare = table[:1].expand(spare_rows, *table.shape[1:])
    return torch.cat([table, spare]).detach().clone()


class ItemRows(nn.Module):
    """Computes an item's columns from its id embedding and its fields."""

    def __init__(self, items: ItemFeatures, spare_rows: int) -> None:
        """Take over the weights of a trained stage's items."""
        super().__init__()
        embedding = items.field_embedding
        self.register_buffer("ids_RE", with_spare_rows(items.ids.weight, spare_rows))
        self.ids_RE: Tensor
        self.register_buffer("field_offsets_F", embedding.offsets_F.clone())
        self.field_offsets_F: Tensor
        self.register_buffer("field_table", embedding.table.weight.detach().clone())
        self.field_table: Tensor
        self.register_buffer("weight_XY", items.project.weight.detach().clone())
        self.weight_XY: Tensor
        self.register_buffer("bias_X", items.project.bias.detach().clone())
        self.bias_X: Tensor

    def forward(self, rows_N: Tensor, fields_NF: Tensor) -> Tensor:
        """Columns of items with these fields in these rows, float [N, X]."""
        fields_NY = nn.functional.embedding(fields_NF + self.field_offsets_F, self.field_table)
        inputs_NY = torch.cat([self.ids_RE[rows_N], fields_NY.flatten(1)], dim=1)
        return nn.functional.linear(inputs_NY, self.weight_XY, self.bias_X)


def snapshot_values(price_N: Tensor, popularity_N: Tensor) -> Tensor:
    """Log price, whether a price is known, and log popularity: float [N, V]."""
    known_N = (price_N > 0).to(price_N.dtype)
    return torch.stack([torch.log1p(price_N), known_N, torch.log1p(popularity_N)], dim=1)


def check_rows(rows_N: Tensor, rows: int) -> None:
    """Refuse rows that no item can stand in.

    Args:
        rows_N: int64 [N].
        rows: R, rows of the tables.

    Raises:
        ValueError: a row is that of the unknown item, or none of the tables'.
    """
    if rows_N.numel() > 0:
        least, most = int(rows_N.min()), int(rows_N.max())
        if least < 1 or most >= rows:
            raise ValueError(
                f"rows {least} to {most} must be in [1, {rows - 1}]: row 0 is the unknown item's; "
                "export again for more spare rows"
            )
