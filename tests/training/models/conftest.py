"""A cascade with fresh weights over the items of the random shop, and requests of that shop.

Built as training builds it, so that these tests say nothing about the sizes of its layers.
"""

import numpy as np
import pytest
import torch

from training.cascade import Cascade, build_cascade
from training.config import CandidateConfig, RankConfig, RetrievalConfig, TrainConfig
from training.data.dataset import PreparedDataset
from training.data.requests import request_tensors
from training.features import RequestTensors

LENGTH = 40
CONFIG = TrainConfig(
    name="tiny",
    history_length=LENGTH,
    candidates=CandidateConfig(),
    retrieval=RetrievalConfig(width=8, keep=4, history_candidates=3),
    rank=RankConfig(width=8, hidden=(12, 6), attention_units=4, attention_length=5),
)


@pytest.fixture
def cascade(random_dataset: PreparedDataset) -> Cascade:
    torch.manual_seed(1)
    cascade = build_cascade(random_dataset.meta, random_dataset.arrays, CONFIG)
    with torch.no_grad():
        for parameter in cascade.parameters():  # what starts at zero shall matter too
            parameter.add_(0.1 * torch.randn_like(parameter))
    return cascade.eval()


@pytest.fixture
def requests(random_dataset: PreparedDataset) -> RequestTensors:
    """Eight requests, those with the shortest histories among them."""
    arrays = random_dataset.arrays
    shortest = np.argsort(arrays.history_end - arrays.history_start, kind="stable")
    return request_tensors(arrays, shortest[[0, 1, 9, 20, 40, 60, -2, -1]], LENGTH)


@pytest.fixture
def rows(random_dataset: PreparedDataset) -> torch.Tensor:
    """int64 [8, 7]: candidates, the unknown item among them; none twice in a request."""
    items = len(random_dataset.items)
    return torch.stack([torch.randperm(items)[:7] for _ in range(8)])
