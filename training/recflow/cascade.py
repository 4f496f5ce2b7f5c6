"""The cascade that is trained on a log: its stages, over the same candidates.

Legend: B requests, N candidates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.models.sparse_embedding import SparseEmbedding
from training.recflow.batches import Batch
from training.recflow.config import RecFlowConfig
from training.recflow.log import LogError, PreparedLog
from training.recflow.models.din import DIN
from training.recflow.models.dssm import DSSM
from training.recflow.models.mlp import MLP

Stage = DSSM | MLP | DIN

MODELS: dict[str, type[Stage]] = {"dssm": DSSM, "mlp": MLP, "din": DIN}


class LogCascade(nn.Module):
    """Stages that share nothing but the candidates."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Join stages, retrieval first."""
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, batch: Batch) -> list[Tensor]:
        """Scores of the candidates, float [B, N] for each stage, retrieval first."""
        return [stage(batch) for stage in self.stages]

    def embeddings(self) -> list[SparseEmbedding]:
        """The sparse embeddings, one a stage."""
        return [module for module in self.modules() if isinstance(module, SparseEmbedding)]

    def dense_parameters(self) -> list[nn.Parameter]:
        """Everything else that is trained."""
        return list(self.parameters())


def build_cascade(log: PreparedLog, config: RecFlowConfig, last_day: str) -> LogCascade:
    """A fresh cascade over what a log knew at the end of a day.

    Seed torch before: weights are drawn here. Rows that came later are unknown to it.

    Raises:
        LogError: the log has no such day.
    """
    if last_day not in log.meta.days:
        first, last = log.meta.days[0], log.meta.days[-1]
        raise LogError(f"{log.path} has no day {last_day!r}; it has {first} to {last}")
    day = log.meta.days.index(last_day)
    vocabularies = {field: rows[day] for field, rows in log.meta.vocabularies.items()}
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    dtype = getattr(torch, config.precision)
    return LogCascade(
        [
            MODELS[stage.model](
                vocabularies, config.embedding_width, config.units, dtype, generator
            )
            for stage in config.stages
        ]
    )
