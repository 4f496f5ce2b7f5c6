"""The objective: what competes with what, and what leaves it unchanged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.shop import tiny_config
from training.data.sampling import Candidates
from training.objective import Loss, Objective

B, N = 4, 12
NAMES = ("baseline", "dftopk")


def candidates() -> Candidates:
    """Three bought of eleven and one padding; entries 2 to 5 stand in the history."""
    labels = torch.zeros(B, N, dtype=torch.bool)
    labels[:, :3] = True
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[:, -1] = False
    in_history = torch.zeros(B, N, dtype=torch.bool)
    in_history[:, 2:6] = True
    return Candidates(
        rows_BN=torch.arange(N).expand(B, N) * valid,
        labels_BN=labels,
        valid_BN=valid,
        in_history_BN=in_history,
        log_rate_BN=torch.randn(B, N),
    )


def loss_of(name: str, folder: Path, scores: Tensor, given: Candidates) -> Loss:
    """Loss of scores [2, B, N]: those of retrieval, then those of ranking."""
    loss: Loss = Objective(tiny_config(folder, name))(scores[0], scores[1], given)
    return loss


def test_separate_is_the_mean_cross_entropy_of_what_competes(tmp_path: Path) -> None:
    given = candidates()
    scores = torch.randn(2, B, N)
    retrieval, rank = scores
    loss = loss_of("baseline", tmp_path, scores, given)
    labels = given.labels_BN.float()
    competing = [0, 1, *range(6, N - 1)]
    expected = {
        "retrieval": binary_cross_entropy_with_logits(
            (retrieval - given.log_rate_BN)[:, competing], labels[:, competing]
        ),
        "rank": binary_cross_entropy_with_logits(
            (rank - given.log_rate_BN)[:, : N - 1], labels[:, : N - 1]
        ),
    }
    torch.testing.assert_close(loss.parts, expected)
    torch.testing.assert_close(loss.total, expected["retrieval"] + expected["rank"])


def test_joint_has_a_term_a_stage_and_one_for_both(tmp_path: Path) -> None:
    loss = loss_of("dftopk", tmp_path, torch.randn(2, B, N), candidates())
    assert list(loss.parts) == ["retrieval", "rank", "joint"]
    assert all(value > 0 for value in loss.parts.values())


@pytest.mark.parametrize("name", NAMES)
def test_retrieval_is_not_judged_on_the_history(tmp_path: Path, name: str) -> None:
    given = candidates()
    scores = torch.randn(2, B, N)
    before = loss_of(name, tmp_path, scores, given)
    scores[0, :, 2:6] += 100 * torch.randn(B, 4)
    after = loss_of(name, tmp_path, scores, given)
    torch.testing.assert_close(after.parts, before.parts)
    scores[1, :, 2:6] += 1
    assert loss_of(name, tmp_path, scores, given).parts["rank"] != before.parts["rank"]


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(tmp_path: Path, name: str) -> None:
    given = candidates()
    scores = torch.randn(2, B, N)
    before = loss_of(name, tmp_path, scores, given)
    scores[:, :, -1] = 1e4
    torch.testing.assert_close(loss_of(name, tmp_path, scores, given), before)


@pytest.mark.parametrize("name", NAMES)
def test_what_sampling_added_is_taken_off(tmp_path: Path, name: str) -> None:
    given = candidates()
    scores = torch.randn(2, B, N)
    before = loss_of(name, tmp_path, scores, given)
    added = torch.randn(B, N)
    shifted = given._replace(log_rate_BN=given.log_rate_BN + added)
    after = loss_of(name, tmp_path, scores + added, shifted)
    torch.testing.assert_close(after.parts, before.parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_descent_puts_what_was_bought_on_top(tmp_path: Path, name: str) -> None:
    given = candidates()._replace(log_rate_BN=torch.zeros(B, N))
    scores = torch.randn(2, B, N, requires_grad=True)
    objective = Objective(tiny_config(tmp_path, name))
    optimizer = torch.optim.Adam([scores, *objective.parameters()], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        objective(*scores, given).total.backward()
        optimizer.step()
    ranked = scores[1].masked_fill(~given.valid_BN, -torch.inf).argsort(1, descending=True)
    assert np.array_equal(ranked[:, :3].sort(1).values.numpy(), np.tile([0, 1, 2], (B, 1)))
    competing = scores[0].masked_fill(~given.valid_BN | given.in_history_BN, -torch.inf)
    assert set(competing.topk(2).indices.flatten().tolist()) == {0, 1}
