"""Each stage against the textbook's, values and gradients."""

import pytest
import torch
from torch import Tensor

from tests.training.recflow.models import textbook
from training.losses.judgments import Judgments
from training.recflow.batches import Batch
from training.recflow.cascade import MODELS, Stage
from training.recflow.log import HISTORY_FIELDS, ITEM_FIELDS, REQUEST_FIELDS
from training.recflow.models import perceptron
from training.recflow.models.din import DIN
from training.recflow.models.dssm import DSSM
from training.recflow.models.fields import FIELDS

B, L, S = 7, 6, 4
VOCABULARIES = {field: 5 + i for i, field in enumerate(FIELDS)}


def _rows(fields: tuple[str, ...], *shape: int) -> Tensor:
    """Some padding, some known, some unknown."""
    sizes_F = torch.tensor([VOCABULARIES[field] + 2 for field in fields])
    rows_XF = (torch.rand(*shape, len(fields)) * sizes_F).int()
    rows_XF[torch.rand(shape) < 0.2] = 0
    return rows_XF


def make_batch(negatives: int, seed: int = 0) -> Batch:
    """Short lists, short histories and an empty one, as negatives any slot of the pool."""
    torch.manual_seed(seed)
    lengths_B = torch.tensor([0, L, *torch.randint(1, L, (B - 2,)).tolist()])
    mask_BL = torch.arange(L) >= L - lengths_B.unsqueeze(1)
    history_BLF = _rows(HISTORY_FIELDS, B, L) * mask_BL.unsqueeze(2).int()
    own_BS = torch.arange(B * S).view(B, S)
    picks_BN = torch.cat([own_BS, torch.randint(0, B * S, (B, negatives))], 1)
    ones_BN = torch.ones_like(picks_BN)
    judgments = Judgments(ones_BN.float(), ones_BN, ones_BN > 0, ones_BN > 0)
    fields_BF, pool_PF = _rows(REQUEST_FIELDS, B), _rows(ITEM_FIELDS, B * S)
    ids_B = torch.arange(B)
    return Batch(fields_BF, history_BLF, mask_BL, pool_PF, picks_BN, judgments, ids_B)


def make_stage(model: str, dtype: torch.dtype = torch.float32) -> Stage:
    """A stage whose scores are spread enough to tell candidates apart."""
    torch.manual_seed(1)
    stage = MODELS[model](VOCABULARIES, 8, 128, dtype, torch.Generator().manual_seed(2))
    stage.embedding.weight_RD.mul_(1 / stage.embedding.weight_RD.std())
    return stage


def reference(stage: Stage, batch: Batch, tables: dict[str, Tensor]) -> Tensor:
    """The textbook's scores."""
    inputs = textbook.embedded(tables, batch)
    if isinstance(stage, DSSM):
        return textbook.dssm(stage, inputs)
    if isinstance(stage, DIN):
        return textbook.din(stage, inputs, batch.history_mask_BL)
    return textbook.mlp(stage, inputs)


def gradients(stage: Stage, scores_BN: Tensor) -> dict[str, Tensor]:
    """Gradients of a weighted sum of scores for the dense weights, by name."""
    torch.manual_seed(3)
    stage.zero_grad()
    (scores_BN * torch.randn(scores_BN.shape)).sum().backward()
    return {name: p.grad.clone() for name, p in stage.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("negatives", [0, 5])
@pytest.mark.parametrize("model", MODELS)
def test_stage_is_the_textbooks(
    model: str, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptron, "ROWS", 20)  # Several chunks, the last one short.
    stage, batch = make_stage(model), make_batch(negatives)
    tables = textbook.tables(stage)
    expected_BN = reference(stage, batch, tables)
    expected = gradients(stage, expected_BN)

    scores_BN = stage(batch)
    torch.testing.assert_close(scores_BN, expected_BN, atol=1e-5, rtol=1e-5)
    found = gradients(stage, scores_BN)
    assert found.keys() == expected.keys() == dict(stage.named_parameters()).keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)

    touched = stage.embedding.gradient()
    assert touched is not None
    table_RD = torch.zeros_like(stage.embedding.weight_RD).index_copy_(0, *touched)
    grads = [t.grad if t.grad is not None else torch.zeros_like(t) for t in tables.values()]
    torch.testing.assert_close(table_RD, torch.cat(grads), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("negatives", [0, 5])
@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_is_close_and_trains_every_weight(model: str, negatives: int) -> None:
    batch = make_batch(negatives)
    exact, rough = make_stage(model), make_stage(model, torch.bfloat16)
    expected_BN, scores_BN = exact(batch), rough(batch)
    assert scores_BN.dtype == torch.float32
    assert (scores_BN - expected_BN).abs().max() < 0.1 * expected_BN.std()
    expected, found = gradients(exact, expected_BN), gradients(rough, scores_BN)
    for name, gradient in expected.items():
        # Where rounding turns a ReLU on or off, a gradient of so few rows changes visibly.
        assert (found[name] - gradient).norm() < 0.3 * gradient.norm(), name
