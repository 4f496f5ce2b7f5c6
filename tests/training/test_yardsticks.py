"""Yardsticks on purchases that can be counted by hand, and on Complete Journey."""

from pathlib import Path

import numpy as np
import pytest

from training.data.complete_journey import write_tables
from training.data.dataset import Arrays, PreparedDataset
from training.data.transactions import prepare
from training.evaluation import evaluate
from training.features import OOV, US_PER_DAY
from training.yardsticks import (
    PERSONAL_FREQUENCY,
    POPULARITY,
    RECENT_FREQUENCY,
    Yardsticks,
)

DAY = US_PER_DAY
ITEMS = 6


def arrays(purchases: list[tuple[int, int, int]], requests: list[tuple[int, int]]) -> Arrays:
    """Arrays of (user, row, day) purchases and (user, day) requests."""
    purchases = sorted(purchases, key=lambda p: (p[0], p[2]))
    users, rows, days = (np.array(column) for column in zip(*purchases, strict=True))
    starts = [int(np.searchsorted(users, user)) for user, _ in requests]
    ends = [
        int(((users < user) | ((users == user) & (days < day))).sum()) for user, day in requests
    ]
    nothing = np.zeros(0, dtype=np.int64)
    empty = Arrays(*(nothing for _ in Arrays._fields))  # type: ignore[arg-type]
    return empty._replace(
        purchase_rows=rows.astype(np.int32),
        purchase_ts_us=days * DAY,
        request_ts_us=np.array([day * DAY for _, day in requests]),
        history_start=np.array(starts),
        history_end=np.array(ends),
    )


def answers(
    purchases: list[tuple[int, int, int]],
    requests: list[tuple[int, int]],
    train_end_day: int = 100,
    available: list[bool] | None = None,
    num: int = 3,
) -> list[dict[str, list[int]]]:
    allowed = np.array(available or [True] * ITEMS)
    yardsticks = Yardsticks(arrays(purchases, requests), train_end_day * DAY, allowed, num)
    found = yardsticks.answers(np.arange(len(requests)))
    return [{name: rows.tolist() for name, rows in answer.items()} for answer in found]


OTHERS = [(9, 5, 1), (9, 5, 2), (9, 5, 3), (9, 4, 1), (9, 4, 2), (9, 6, 1)]


def test_popularity_counts_the_training_period_only() -> None:
    purchases = [*OTHERS, *[(9, 2, day) for day in range(50, 60)]]
    (answer,) = answers(purchases, [(1, 70)], train_end_day=50)
    assert answer[POPULARITY] == [5, 4, 6]


def test_personal_frequency_counts_what_was_bought_before_the_request() -> None:
    own = [(1, 2, 1), (1, 2, 2), (1, 3, 1), (1, 1, 10), (1, 1, 11), (1, 1, 12)]
    early, late = answers([*own, *OTHERS], [(1, 10), (1, 13)], train_end_day=10)
    assert early[PERSONAL_FREQUENCY] == [2, 3, 5]
    assert late[PERSONAL_FREQUENCY] == [1, 2, 3]


def test_ties_and_the_rest_go_by_popularity() -> None:
    (answer,) = answers([(1, 6, 1), (1, 4, 2), *OTHERS], [(1, 20)])
    assert answer[PERSONAL_FREQUENCY] == [4, 6, 5]


def test_recent_frequency_forgets() -> None:
    own = [(1, 2, 0), (1, 2, 1), (1, 3, 199)]  # exp(-200/120) + exp(-199/120) < exp(-1/120)
    (answer,) = answers([*own, *OTHERS], [(1, 200)])
    assert answer[PERSONAL_FREQUENCY] == [2, 3, 5]
    assert answer[RECENT_FREQUENCY] == [3, 2, 5]


def test_unknown_and_unavailable_items_are_never_answered() -> None:
    own = [(1, OOV, 1), (1, OOV, 2), (1, 2, 1), (1, 3, 1)]
    available = [True, False, True, True, False, True]  # not 2, not 5
    (answer,) = answers([*own, *OTHERS], [(1, 20)], available=available)
    assert answer == {
        POPULARITY: [4, 3, 6],
        PERSONAL_FREQUENCY: [3, 4, 6],
        RECENT_FREQUENCY: [3, 4, 6],
    }


def test_too_few_items_leave_places_empty() -> None:
    (answer,) = answers(OTHERS, [(1, 20)], available=[False] * 4 + [True, False])
    assert answer[PERSONAL_FREQUENCY] == [5, OOV, OOV]


@pytest.mark.slow
def test_on_complete_journey_they_reach_what_is_documented(tmp_path: Path) -> None:
    dataset: PreparedDataset = prepare(write_tables(tmp_path / "source"), tmp_path / "prepared")
    found = {score.name: score for score in evaluate([], dataset).scores}
    for name, recall, revenue in (
        (POPULARITY, 0.069, 0.040),
        (PERSONAL_FREQUENCY, 0.221, 0.166),
        (RECENT_FREQUENCY, 0.239, 0.181),
    ):
        assert found[name].recall.value == pytest.approx(recall, abs=5e-4)
        assert found[name].revenue_share.value == pytest.approx(revenue, abs=5e-4)
