"""The conditional cross-entropy, against the definition of a profile likelihood."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from training.losses.conditional import EveryCut, conditional_cross_entropy
from training.losses.judgments import Judgments


def a_list(positives: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(1, size, generator=draw, dtype=torch.float64)
    return logits.requires_grad_(), (torch.arange(size) < positives).unsqueeze(0)


@pytest.mark.parametrize("positives", [1, 3, 6])
def test_it_is_the_lowest_cross_entropy_over_all_shifts_of_a_request(positives: int) -> None:
    logits, labels = a_list(positives, 7)
    loss = conditional_cross_entropy(logits, labels, torch.ones_like(labels))
    shifts = torch.linspace(-10, 10, 200_001, dtype=torch.float64).unsqueeze(1)
    many = (logits.detach() - shifts, labels.double().expand(len(shifts), -1))
    by_shift = binary_cross_entropy_with_logits(*many, reduction="none").mean(1)
    assert loss.item() == pytest.approx(by_shift.min().item(), rel=1e-8)
    best = shifts[by_shift.argmin()]
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = (torch.sigmoid(logits - best) - labels.double()) / 7
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=0)


def test_one_positive_in_a_long_list_is_softmax_cross_entropy() -> None:
    logits, labels = a_list(1, 20_000)
    logits = logits.detach() / 10
    logits.requires_grad_()
    loss = 20_000 * conditional_cross_entropy(logits, labels, torch.ones_like(labels))
    (found,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])), logits)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_requests_count_by_weight_and_those_with_nothing_to_tell_do_not() -> None:
    first, second = (a_list(2, 5, seed)[0] for seed in (1, 2))
    labels = torch.arange(5) < torch.tensor([[2], [2], [0], [5], [3]])
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[4, 3:] = False  # its negatives are padding
    logits = torch.cat([first, second, first, first, first])
    weights = torch.tensor([1.0, 0.25, 1.0, 1.0, 1.0])
    found = conditional_cross_entropy(logits, labels, mask, weights, tau=0.5)
    one, other = (
        conditional_cross_entropy(x, labels[:1], mask[:1], tau=0.5) for x in (first, second)
    )
    torch.testing.assert_close(found, (one + 0.25 * other) / 1.25)
    assert conditional_cross_entropy(logits[2:], labels[2:], mask[2:]) == 0


def test_positives_outside_of_the_list_take_no_places() -> None:
    logits, labels = a_list(2, 5)
    mask = torch.arange(5).unsqueeze(0) > 0
    found = conditional_cross_entropy(logits, labels, mask)
    inside = conditional_cross_entropy(logits[:, 1:], labels[:, 1:], mask[:, 1:])
    torch.testing.assert_close(found, inside)


def test_every_cut_of_the_log_is_learnt_by_every_stage() -> None:
    logits, labels = a_list(2, 6)
    depth = torch.tensor([[2, 2, 2, 1, 0, 0]])
    valid = torch.tensor([[True, True, True, True, True, False]])
    judgments = Judgments(labels.double(), depth, labels, valid, torch.ones(1))
    loss = EveryCut(tau=2.0)([logits, -logits], judgments)
    passed = torch.arange(6).unsqueeze(0) < 4
    for stage, scores in enumerate((logits, -logits)):
        truth = conditional_cross_entropy(scores, labels, valid, tau=2.0)
        earlier = conditional_cross_entropy(scores, passed, valid, tau=2.0)
        torch.testing.assert_close(loss.parts[f"stage_{stage}"], truth + 0.3 * earlier)
    torch.testing.assert_close(loss.total, sum(loss.parts.values()))


def test_a_log_without_cuts_leaves_the_truth() -> None:
    logits, labels = a_list(2, 6)
    valid = torch.ones_like(labels)
    judgments = Judgments(labels.double(), torch.ones_like(logits).long(), labels, valid)
    loss = EveryCut(tau=1.0)([logits], judgments)
    torch.testing.assert_close(loss.total, conditional_cross_entropy(logits, labels, valid))
