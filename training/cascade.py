"""The cascade as the offline world sees it: its stages, and what they would answer.

Legend: B requests, N candidates, I items, D retrieval width, K answered items.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import TrainConfig
from training.data.dataset import Arrays, DatasetMeta
from training.features import OOV, FeatureSchema, RequestTensors
from training.models.din import DeepInterestNetwork
from training.models.item import ItemCatalogue
from training.models.two_tower import TwoTower

RETRIEVAL = "retrieval"
RANK = "rank"


class Cascade(nn.Module):
    """A retrieval stage and the ranking stage behind it."""

    def __init__(self, retrieval: TwoTower, rank: DeepInterestNetwork) -> None:
        """Join two stages."""
        super().__init__()
        self.retrieval = retrieval
        self.rank = rank


def feature_schema(meta: DatasetMeta, config: TrainConfig) -> FeatureSchema:
    """Schema of the features a configuration trains on."""
    return FeatureSchema(
        user=meta.user_fields,
        context=meta.context_fields,
        item=meta.item_fields,
        history_length=config.history_length,
    )


def build_cascade(meta: DatasetMeta, arrays: Arrays, config: TrainConfig) -> Cascade:
    """A fresh cascade over a dataset's items. Seed torch before: weights are drawn here."""
    schema = feature_schema(meta, config)
    catalogue = ItemCatalogue(
        fields_IF=torch.from_numpy(arrays.item_fields.astype(np.int64)),
        cardinalities=tuple(field.cardinality for field in meta.item_fields),
        price_SI=torch.from_numpy(np.array(arrays.snapshot_price)),
        popularity_SI=torch.from_numpy(np.array(arrays.snapshot_popularity)),
    )
    rank = config.rank
    return Cascade(
        TwoTower(schema, catalogue, config.retrieval.width),
        DeepInterestNetwork(
            schema,
            catalogue,
            rank.width,
            rank.hidden,
            rank.attention_units,
            rank.attention_length,
        ),
    )


class Answers(NamedTuple):
    """What a cascade answers to B requests."""

    rows_BK: NDArray[np.int64]
    """Item rows by position, `OOV` where there were fewer."""
    candidates: list[NDArray[np.int64]]
    """Rows that reached ranking, one array a request."""


@torch.inference_mode()
def recommend(
    cascade: Cascade,
    item_vectors_ID: Tensor,
    request: RequestTensors,
    config: TrainConfig,
    num: int,
    available_I: NDArray[np.bool_],
) -> Answers:
    """Answer requests as the served cascade does: recall, history, rank.

    Args:
        cascade: stages in eval mode.
        item_vectors_ID: what `encode_items` returned.
        request: B requests.
        config: how many candidates each stage passes on.
        num: K, items to answer with.
        available_I: bool [I], items that may be recommended.
    """
    user_BD = cascade.retrieval.encode_user(*request)
    scores_BI = (user_BD @ item_vectors_ID.T).masked_fill(
        ~torch.from_numpy(available_I), -torch.inf
    )
    keep = min(max(config.retrieval.keep, num), int(available_I.sum()))
    recalled_BK = scores_BI.topk(keep, dim=1).indices.numpy() + 1
    candidates = [
        candidate_rows(recalled, rows[:length], config.retrieval.history_candidates, available_I)
        for recalled, rows, length in zip(
            recalled_BK,
            request.history_rows_BL.numpy(),
            request.history_len_B.tolist(),
            strict=True,
        )
    ]
    width = max([num, *(len(rows) for rows in candidates)])
    rows_BN = np.full((len(candidates), width), OOV, dtype=np.int64)
    for line, rows in zip(rows_BN, candidates, strict=True):
        line[: len(rows)] = rows
    logits_BN = cascade.rank(*request, torch.from_numpy(rows_BN))
    logits_BN = logits_BN.masked_fill(torch.from_numpy(rows_BN == OOV), -torch.inf)
    best_BK = logits_BN.topk(num, dim=1).indices.numpy()
    return Answers(np.take_along_axis(rows_BN, best_BK, axis=1), candidates)


def candidate_rows(
    recalled: NDArray[np.int64],
    history_rows: NDArray[np.int64],
    history_candidates: int,
    available_I: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Recalled items, then the newest distinct items of the history that are not among them."""
    known = history_rows[history_rows != OOV]
    known = known[available_I[known - 1]]
    distinct, first = np.unique(known, return_index=True)
    newest = distinct[np.argsort(first)][:history_candidates]
    return np.concatenate([recalled, newest[~np.isin(newest, recalled)]])
