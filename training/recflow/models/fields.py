"""Fields of a stage, and their embeddings.

A stage has tables of its own, shared with no other stage. Within it, videos, authors and categories
of the history and of the candidates share a table, and so do the hours of requests and uploads.

Legend: B requests, L history length, P items of the pool, D width of one field.
"""

from torch import Generator, Tensor

from training.models.sparse_embedding import SparseEmbedding
from training.recflow.batches import Batch
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS

FIELDS = (*REQUEST_FIELDS, *(field for field in ITEM_FIELDS if field not in REQUEST_FIELDS))
"""Every field once."""
REQUEST, ITEM, HISTORY = (
    tuple(FIELDS.index(field) for field in fields)
    for fields in (REQUEST_FIELDS, ITEM_FIELDS, HISTORY_FIELDS)
)
"""Places in `FIELDS`."""


def make_embedding(
    vocabularies: dict[str, int], width: int, generator: Generator
) -> SparseEmbedding:
    """Tables of a stage over rows of `vocabularies`, `width` columns a field."""
    return SparseEmbedding([vocabularies[field] for field in FIELDS], width, generator)


def embed_requests(embedding: SparseEmbedding, batch: Batch) -> Tensor:
    """Float [B, 8 D], as `REQUEST_FIELDS`."""
    embedded: Tensor = embedding(batch.fields_BF, REQUEST)
    return embedded


def embed_history(embedding: SparseEmbedding, batch: Batch) -> Tensor:
    """Float [B, L, 5 D], as `HISTORY_FIELDS`; zeros in the padding."""
    embedded: Tensor = embedding(batch.history_BLF, HISTORY)
    return embedded


def embed_pool(embedding: SparseEmbedding, batch: Batch) -> Tensor:
    """Float [P, 8 D], as `ITEM_FIELDS`; zeros in an empty slot."""
    embedded: Tensor = embedding(batch.pool_PF, ITEM)
    return embedded


def mean_history(history_BLX: Tensor, batch: Batch) -> Tensor:
    """Float [B, X], mean over the behaviours of each request, zeros where there are none."""
    count_B1 = batch.history_mask_BL.sum(1, keepdim=True).clamp(min=1)
    mean_BX: Tensor = history_BLX.sum(1) / count_B1
    return mean_BX
