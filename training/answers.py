"""Answers of a cascade to a dataset's requests, batch by batch.

Legend: B requests answered at once, I items.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.cascade import Answers, Cascade, recommend
from training.config import TrainConfig
from training.data.dataset import Arrays, PreparedDataset
from training.data.requests import request_tensors

NUM = 20
"""Items asked for in every offline measurement."""
BATCH = 64

Int64 = NDArray[np.int64]


def answers(
    cascade: Cascade,
    arrays: Arrays,
    requests: Int64,
    config: TrainConfig,
    available_I: NDArray[np.bool_],
) -> Iterator[Answers]:
    """What a cascade in eval mode answers, in the order of the requests, `BATCH` at a time."""
    with torch.inference_mode():
        vectors_ID = cascade.retrieval.encode_items()
    for first in range(0, len(requests), BATCH):
        batch = request_tensors(arrays, requests[first : first + BATCH], config.history_length)
        yield recommend(cascade, vectors_ID, batch, config, NUM, available_I)


def plain_arrays(dataset: PreparedDataset) -> Arrays:
    """The arrays as plain views: still read from disk on demand, but indexed faster."""
    views: list[Any] = [np.asarray(array) for array in dataset.arrays]
    return Arrays(*views)


def availability(dataset: PreparedDataset) -> NDArray[np.bool_]:
    """Mask [I] of the items that may be recommended."""
    available: NDArray[np.bool_] = dataset.item_table["available"].to_numpy(zero_copy_only=False)
    return available


def spread(requests: Int64, size: int) -> Int64:
    """`size` of the requests, evenly spaced over their order; all if there are no more."""
    if len(requests) <= size:
        return requests
    return requests[np.linspace(0, len(requests) - 1, size).astype(np.int64)]
