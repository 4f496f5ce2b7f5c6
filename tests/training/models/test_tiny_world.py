"""Worlds in which the right item is certain: a stage that cannot learn them learns nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.cascade import RANK, RETRIEVAL, build_cascade
from training.config import RankConfig, RetrievalConfig, TrainConfig
from training.data.dataset import Arrays, DatasetMeta
from training.features import CategoricalField, RequestTensors
from training.losses.config import LossConfig

ITEMS = 12
CONFIG = TrainConfig(
    name="tiny",
    loss=LossConfig(name="bce"),
    history_length=3,
    retrieval=RetrievalConfig(width=8),
    rank=RankConfig(width=8, hidden=(16, 8), attention_units=4, attention_length=3),
)
TASTE = CategoricalField(name="taste", vocabulary=tuple(f"t{n}" for n in range(ITEMS)))


def _stage(name: str) -> nn.Module:
    meta = DatasetMeta(
        name="tiny", currency="EUR", validation_start_us=0, test_start_us=0,
        user_fields=(TASTE,), context_fields=(), item_fields=(),
    )  # fmt: skip
    empty: NDArray[Any] = np.zeros(0)
    arrays = Arrays(**dict.fromkeys(Arrays._fields, empty))._replace(
        item_fields=np.zeros((ITEMS + 1, 0), dtype=np.int32),
        snapshot_price=np.ones((1, ITEMS + 1), dtype=np.float32),
        snapshot_popularity=np.ones((1, ITEMS + 1), dtype=np.float32),
    )
    stage: nn.Module = getattr(build_cascade(meta, arrays, CONFIG), name)
    return stage


def _requests(rule: str, size: int) -> tuple[RequestTensors, Tensor]:
    """Requests and the row each will buy.

    `taste`: the user's field names it. `habit`: it is the newest of the history, again. `next`: it
    is the one after the newest of the history.
    """
    right = torch.randint(1, ITEMS + 1, (size,))
    newest = right if rule == "habit" else (right - 2) % ITEMS + 1
    known = int(rule != "taste")
    rows = torch.nn.functional.pad(newest.unsqueeze(1) * known, (0, 2))
    zeros = torch.zeros(size, dtype=torch.int64)
    request = RequestTensors(
        user_BU=(right if rule == "taste" else zeros).unsqueeze(1),
        context_BC=torch.zeros(size, 2, dtype=torch.int64),
        history_rows_BL=rows,
        history_age_days_BL=torch.nn.functional.pad(torch.rand(size, 1) * known, (0, 2)),
        history_len_B=zeros + known,
        snapshot_B=zeros,
    )
    return request, right


@pytest.mark.parametrize("rule", ["taste", "habit", "next"])
@pytest.mark.parametrize("name", [RETRIEVAL, RANK])
def test_a_stage_learns_what_is_certain(name: str, rule: str) -> None:
    stage = _stage(name).train()
    optimizer = torch.optim.Adam(stage.parameters(), lr=0.03)
    everything = torch.arange(1, ITEMS + 1).expand(64, ITEMS)
    for _ in range(150):
        request, right = _requests(rule, 64)
        logits = stage(*request, everything)
        loss = nn.functional.cross_entropy(logits, right - 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    request, right = _requests(rule, 64)
    with torch.inference_mode():
        best = stage.eval()(*request, everything).argmax(1) + 1
    assert best.equal(right)
