"""What holds for every stage, whatever it computes from a request and its candidates."""

import pytest
import torch
from torch import Tensor, nn

from tests.training.models.conftest import LENGTH
from training.cascade import RANK, RETRIEVAL, Cascade
from training.features import OOV, RequestTensors

STAGES = [RETRIEVAL, RANK]


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest, cascade: Cascade) -> nn.Module:
    module: nn.Module = getattr(cascade, request.param)
    return module


def _close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_permuting_candidates_permutes_scores(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    order = torch.randperm(rows.shape[1])
    _close(stage(*requests, rows[:, order]), stage(*requests, rows)[:, order])


def test_permuting_requests_permutes_scores(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    order = torch.randperm(rows.shape[0])
    permuted = RequestTensors(*(tensor[order] for tensor in requests))
    _close(stage(*permuted, rows[order]), stage(*requests, rows)[order])


def test_other_candidates_and_padding_change_no_score(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    scores = stage(*requests, rows)
    padded = torch.cat([rows, torch.full((8, 30), OOV), rows.flip(1)], dim=1)
    _close(stage(*requests, padded)[:, :7], scores)
    _close(stage(*requests, rows[:, 2:3]), scores[:, 2:3])


def test_what_stands_in_the_padding_of_a_history_changes_no_score(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    padding = torch.arange(LENGTH) >= requests.history_len_B.unsqueeze(1)
    assert padding.any(1).sum() > 2
    garbage = requests._replace(
        history_rows_BL=torch.where(padding, rows[0, 0], requests.history_rows_BL),
        history_age_days_BL=torch.where(padding, 0.5, requests.history_age_days_BL),
    )
    _close(stage(*garbage, rows), stage(*requests, rows))


def test_more_padding_changes_no_score(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    longer = requests._replace(
        history_rows_BL=nn.functional.pad(requests.history_rows_BL, (0, 9)),
        history_age_days_BL=nn.functional.pad(requests.history_age_days_BL, (0, 9)),
    )
    _close(stage(*longer, rows), stage(*requests, rows))


def test_history_time_and_candidate_matter(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    scores = stage(*requests, rows)
    for changed in (
        requests._replace(history_rows_BL=requests.history_rows_BL % 11 + 1),
        requests._replace(history_age_days_BL=requests.history_age_days_BL + 20),
        requests._replace(context_BC=(requests.context_BC + 1) % 4),
        requests._replace(user_BU=torch.zeros_like(requests.user_BU)),
        requests._replace(snapshot_B=torch.zeros_like(requests.snapshot_B)),
    ):
        assert not torch.allclose(stage(*changed, rows)[-1], scores[-1], rtol=1e-4, atol=1e-5)
    assert (scores[:, 1:] != scores[:, :-1]).all()


def test_retrieval_scores_are_dot_products_of_what_it_encodes(
    cascade: Cascade, requests: RequestTensors, rows: Tensor
) -> None:
    newest = cascade.retrieval.items.snapshots_SIX.shape[0] - 1
    now = requests._replace(snapshot_B=torch.full_like(requests.snapshot_B, newest))
    rows = rows.clamp(min=1)
    vectors = torch.nn.functional.pad(cascade.retrieval.encode_items(), (0, 0, 1, 0))
    expected = torch.einsum("bd,bnd->bn", cascade.retrieval.encode_user(*now), vectors[rows])
    _close(cascade.retrieval(*now, rows), expected)


def test_rows_of_the_unknown_are_trained(
    stage: nn.Module, requests: RequestTensors, rows: Tensor
) -> None:
    """An unknown item stands in histories, unknown values are drawn in training."""
    history = requests.history_rows_BL.clone()
    assert (history[-1] != OOV).all()
    history[-1, 1] = OOV
    stage.train()
    known = requests._replace(user_BU=requests.user_BU.clamp(min=1), history_rows_BL=history)
    for _ in range(50):
        stage(*known, rows.clamp(min=1)).square().sum().backward()
    ids = stage.get_parameter("items.ids.weight").grad
    users = stage.get_parameter("request.user.table.weight").grad
    fields = stage.get_parameter("items.field_embedding.table.weight").grad
    for gradient in (ids, users, fields):
        assert gradient is not None
        assert gradient[OOV].abs().sum() > 0
