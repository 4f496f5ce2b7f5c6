"""History features against a plain reference that loops over interactions."""

import math

import torch
from torch import Tensor

from training.models.history import WINDOWS_DAYS, HistoryMatch

ITEMS = 9
GROUPS = torch.stack([torch.arange(ITEMS), torch.tensor([0, 1, 1, 2, 2, 2, 0, 3, 3])])


def _slow(groups: list[int], history: list[tuple[int, float]], row: int) -> list[float]:
    """Features of one grouping, of one candidate."""
    ages = [age for item, age in history if groups[item] == groups[row] != 0]
    decayed = [sum(math.exp(-age / days) for age in ages) for days in WINDOWS_DAYS]
    features = [math.log1p(count) for count in [*decayed, len(ages)]]
    if not ages:
        return [*features, 0.0, 0.0, 0.0]
    due = 0.0
    if len(ages) > 1:
        gap = (max(ages) - min(ages)) / (len(ages) - 1)
        due = math.log1p(min(ages)) - math.log1p(gap)
    return [*features, 1.0, math.log1p(min(ages)), due]


def _random_requests(seed: int, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, ITEMS, (6, longest), generator=draw)
    ages = (torch.rand(6, longest, generator=draw) * 300).sort(dim=1).values
    ages[:, 1] = ages[:, 0]  # two at one time
    lengths = torch.tensor([0, 1, 2, longest // 2, longest, longest])
    return rows, ages, lengths


def _reference(rows: Tensor, ages: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
    lines = []
    for b in range(len(rows)):
        length = int(lengths[b])
        history = list(zip(rows[b, :length].tolist(), ages[b, :length].tolist(), strict=True))
        totals = [sum(math.exp(-age / days) for _, age in history) for days in WINDOWS_DAYS]
        shared = [math.log1p(total) for total in [*totals, len(history)]]
        line = []
        for row in candidates[b].tolist():
            matches = [_slow(groups, history, row) for groups in GROUPS.tolist()]
            line.append([*shared, *(value for match in matches for value in match)])
        lines.append(line)
    return torch.tensor(lines)


def test_equals_the_reference() -> None:
    match = HistoryMatch(GROUPS)
    for seed in range(20):
        rows, ages, lengths = _random_requests(seed, longest=12)
        candidates = torch.randint(0, ITEMS, (6, 5 + seed))
        features = match(rows, ages, lengths, candidates)
        expected = _reference(rows, ages, lengths, candidates)
        assert features.shape[2] == match.width
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_a_single_candidate_and_a_single_interaction() -> None:
    match = HistoryMatch(GROUPS)
    history, ages, lengths = torch.tensor([[4], [4]]), torch.tensor([[9.0], [9.0]]), [0, 1]
    for row in range(ITEMS):
        request = history, ages, torch.tensor(lengths), torch.full((2, 1), row)
        torch.testing.assert_close(match(*request), _reference(*request), rtol=1e-5, atol=1e-6)


def test_the_unknown_matches_nothing() -> None:
    match = HistoryMatch(GROUPS)
    zeros = torch.zeros(1, 4, dtype=torch.int64)
    features = match(zeros, torch.ones(1, 4), torch.tensor([4]), zeros)
    shared = len(WINDOWS_DAYS) + 1
    assert features[..., shared:].abs().sum() == 0
    assert (features[..., :shared] > 0).all()
