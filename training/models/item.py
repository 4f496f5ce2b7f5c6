"""What every stage knows of an item: its id, its fields, and its price and popularity at the time.

Legend: I item rows, F item fields, S snapshots, X snapshot values, E width of an item's embedding.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.models.embedding import FieldEmbedding

SNAPSHOT_VALUES = 3


class ItemCatalogue(NamedTuple):
    """The items a cascade is built over, by row; row 0 is the unknown item."""

    fields_IF: Tensor
    """int64 [I, F]"""
    cardinalities: tuple[int, ...]
    """Embedding rows of each field."""
    price_SI: Tensor
    """float32 [S, I], currency units; 0 where no price is known."""
    popularity_SI: Tensor
    """float32 [S, I], interactions in the window before the snapshot."""


class ItemFeatures(nn.Module):
    """Item features by row, so that only row ids cross a stage's boundary.

    Ids and fields are embedded and projected by one linear layer. Where more rows are asked for
    than there are items, each item is projected once and looked up.
    """

    def __init__(
        self, catalogue: ItemCatalogue, id_width: int, field_width: int, output: int
    ) -> None:
        """Make embeddings of the items' ids and fields, and a projection to `output` columns."""
        super().__init__()
        self.register_buffer("fields_IF", catalogue.fields_IF)
        self.fields_IF: Tensor
        price_SI, popularity_SI = catalogue.price_SI, catalogue.popularity_SI
        values_SIX = [torch.log1p(price_SI), (price_SI > 0).float(), torch.log1p(popularity_SI)]
        self.register_buffer("snapshots_SIX", torch.stack(values_SIX, dim=2))
        self.snapshots_SIX: Tensor
        self.ids = nn.Embedding(len(catalogue.fields_IF), id_width)
        nn.init.normal_(self.ids.weight, std=0.05)
        self.field_embedding = FieldEmbedding(catalogue.cardinalities, field_width)
        self.project = nn.Linear(id_width + self.field_embedding.width, output)

    def forward(self, rows: Tensor) -> Tensor:
        """Project int64 [...] item rows into float [..., output]."""
        if rows.numel() <= self.fields_IF.shape[0]:
            return self._projected(rows)
        everything_I = torch.arange(self.fields_IF.shape[0], device=rows.device)
        return nn.functional.embedding(rows, self._projected(everything_I))

    def _projected(self, rows: Tensor) -> Tensor:
        fields = self.field_embedding(self.fields_IF[rows])
        projected: Tensor = self.project(torch.cat([self.ids(rows), fields], dim=-1))
        return projected

    def snapshot(self, rows_BN: Tensor, snapshot_B: Tensor) -> Tensor:
        """Log price, whether a price is known, and log popularity: float [B, N, X]."""
        return self.snapshots_SIX[snapshot_B.unsqueeze(1), rows_BN]
