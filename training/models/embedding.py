"""Embeddings of categorical fields.

Legend: B rows, F fields, D width of one field.
"""

import torch
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """One embedding a field, concatenated; row 0 of each field is out-of-vocabulary.

    While training, a value is replaced by out-of-vocabulary with probability `oov_rate`, so that
    the row which unseen values fall into has been trained.
    """

    def __init__(self, cardinalities: tuple[int, ...], width: int, oov_rate: float = 0.05) -> None:
        """Make tables for fields of the given cardinalities, `width` columns each."""
        super().__init__()
        self.oov_rate = oov_rate
        self.width = width * len(cardinalities)
        sizes = torch.tensor(cardinalities, dtype=torch.int64)
        self.register_buffer("offsets_F", sizes.cumsum(0) - sizes)
        self.offsets_F: Tensor
        self.table = nn.Embedding(max(sum(cardinalities), 1), width)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, indices_BF: Tensor) -> Tensor:
        """Embed int64 [..., F] into float [..., F * D]."""
        if self.training:
            kept = torch.rand(indices_BF.shape, device=indices_BF.device) >= self.oov_rate
            indices_BF = indices_BF * kept
        embedded: Tensor = self.table(indices_BF + self.offsets_F)
        return embedded.flatten(-2)
