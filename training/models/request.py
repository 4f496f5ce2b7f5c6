"""The user side of a request: fields of user and context, embedded.

Legend: B requests, U user fields, C context columns.
"""

import torch
from torch import Tensor, nn

from training.features import FeatureSchema
from training.models.embedding import FieldEmbedding


class RequestEmbedding(nn.Module):
    """Embeds user fields and context columns, and how long ago the user was last seen."""

    def __init__(self, schema: FeatureSchema, field_width: int) -> None:
        """Make `field_width` columns a field."""
        super().__init__()
        self.user = FieldEmbedding(tuple(f.cardinality for f in schema.user), field_width)
        self.context = FieldEmbedding(schema.context_cardinalities, field_width)
        self.width = self.user.width + self.context.width + 2

    def forward(
        self,
        user_BU: Tensor,
        context_BC: Tensor,
        history_age_days_BL: Tensor,
        history_len_B: Tensor,
    ) -> Tensor:
        """Embed requests into float [B, width]."""
        last_seen_B = torch.log1p(history_age_days_BL[:, 0])
        known_B = (history_len_B > 0).to(last_seen_B.dtype)
        activity_B2 = torch.stack([last_seen_B * known_B, known_B], dim=1)
        return torch.cat([self.user(user_BU), self.context(context_BC), activity_B2], dim=1)
