"""Cascades over a prepared log."""

import pytest
import torch

from training.recflow.batches import BatchStream
from training.recflow.cascade import build_cascade
from training.recflow.config import RecFlowConfig, StageConfig
from training.recflow.log import LogError, PreparedLog
from training.recflow.models.din import DIN
from training.recflow.models.dssm import DSSM
from training.recflow.models.fields import FIELDS
from training.recflow.models.mlp import MLP

STAGES = (
    StageConfig(name="retrieval", model="dssm", keep=40),
    StageConfig(name="prerank", model="mlp", keep=30),
    StageConfig(name="rank", model="din", keep=20),
)


def test_stages_score_the_same_candidates(prepared_log: PreparedLog) -> None:
    config = RecFlowConfig(name="a", stages=STAGES, batch_size=20, negatives=5)
    torch.manual_seed(0)
    cascade = build_cascade(prepared_log, config, prepared_log.meta.days[0])
    assert [type(stage) for stage in cascade.stages] == [DSSM, MLP, DIN]
    stream = BatchStream(prepared_log, prepared_log.meta.days, config, shuffle=True, negatives=5)
    scores = cascade(stream.batch(0))
    assert [list(scores_BN.shape) for scores_BN in scores] == 3 * [[20, 55]]
    sum(scores_BN.sum() for scores_BN in scores).backward()
    assert all(p.grad is not None for p in cascade.dense_parameters())
    assert all(embedding.gradient() is not None for embedding in cascade.embeddings())
    # The published widths, at 8 columns a field and 128 units.
    layers = {
        "retrieval": (104 + 64 + 2) * 128 + 2 * (128 + 1) * 64 + 2 * (64 + 1) * 32,
        "prerank": 169 * 128 + 129 * 64 + 65 * 32 + 33,
        "rank": 81 * 80 + 80 + 169 * 128 + 129 * 128 + 129 * 32 + 33,
    }
    assert sum(p.numel() for p in cascade.dense_parameters()) == sum(layers.values())


def test_a_cascade_knows_what_was_known_and_follows_the_seed(prepared_log: PreparedLog) -> None:
    config = RecFlowConfig(name="a")
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        cascade = build_cascade(prepared_log, config, prepared_log.meta.days[0])
        weights.append(torch.cat([tensor.flatten() for tensor in cascade.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    known = tuple(prepared_log.meta.vocabularies[field][0] for field in FIELDS)
    assert known != tuple(prepared_log.meta.vocabularies[field][1] for field in FIELDS)
    assert [embedding.vocabularies for embedding in cascade.embeddings()] == [known, known]
    one, other = cascade.embeddings()
    assert not torch.equal(one.weight_RD, other.weight_RD)


def test_a_day_the_log_lacks_is_refused(prepared_log: PreparedLog) -> None:
    with pytest.raises(LogError, match=r"has no day '2023-01-01'; it has .* to "):
        build_cascade(prepared_log, RecFlowConfig(name="a"), "2023-01-01")
