"""Candidates to train on: who is drawn, and whether `log_rate` says how often."""

import numpy as np
import pytest

from training.config import CandidateConfig
from training.data.dataset import PreparedDataset, Split
from training.data.requests import request_tensors
from training.data.sampling import Candidates, CandidateSampler, Int64
from training.features import OOV

LENGTH = 20
FEW = CandidateConfig(positives=2, history_negatives=2, random_negatives=3)
MANY = CandidateConfig(positives=24, history_negatives=40, random_negatives=80)


@pytest.fixture
def requests(random_dataset: PreparedDataset) -> Int64:
    return random_dataset.requests(Split.TRAIN)


def _sampler(dataset: PreparedDataset, config: CandidateConfig, seed: int) -> CandidateSampler:
    return CandidateSampler(dataset.arrays, dataset.meta.validation_start_us, config, seed)


def _histories(dataset: PreparedDataset, requests: Int64) -> Int64:
    rows: Int64 = request_tensors(dataset.arrays, requests, LENGTH).history_rows_BL.numpy()
    return rows


def _draw(
    dataset: PreparedDataset, requests: Int64, config: CandidateConfig, seed: int = 0
) -> Candidates:
    return _sampler(dataset, config, seed).draw(requests, _histories(dataset, requests))


def _bought(dataset: PreparedDataset, request: int) -> set[int]:
    starts = dataset.arrays.truth_starts
    return set(dataset.arrays.truth_rows[starts[request] : starts[request + 1]].tolist())


@pytest.mark.parametrize("config", [FEW, MANY])
def test_who_is_drawn(
    random_dataset: PreparedDataset, requests: Int64, config: CandidateConfig
) -> None:
    drawn = _draw(random_dataset, requests, config)
    histories = _histories(random_dataset, requests)
    lines = zip(
        requests.tolist(), histories.tolist(), drawn.rows_BN, drawn.labels_BN, drawn.valid_BN,
        drawn.in_history_BN, strict=True,
    )  # fmt: skip
    for request, history, rows, labels, valid, in_history in lines:
        bought, past = _bought(random_dataset, request), set(history) - {OOV}
        assert rows[~valid].tolist() == [OOV] * int((~valid).sum())
        assert not labels[~valid].any()
        assert not in_history[~valid].any()
        candidates = rows[valid].tolist()
        assert OOV not in candidates
        assert len(set(candidates)) == len(candidates)
        assert in_history[valid].tolist() == [row in past for row in candidates]
        positives, negatives = set(rows[labels].tolist()), set(rows[valid & ~labels].tolist())
        assert positives <= bought
        assert len(positives) == min(len(bought), config.positives)
        assert not negatives & bought
        past_negatives = negatives & past
        assert len(past_negatives) == min(len(past - bought), config.history_negatives)


def test_no_history_negatives_where_none_are_wanted(
    random_dataset: PreparedDataset, requests: Int64
) -> None:
    config = CandidateConfig(positives=4, history_negatives=0, random_negatives=3)
    drawn = _draw(random_dataset, requests, config)
    assert not (drawn.in_history_BN & ~drawn.labels_BN).any()
    assert bool(drawn.log_rate_BN.isfinite().all())


def test_log_rate_is_the_log_of_how_often_an_item_is_drawn(
    random_dataset: PreparedDataset, requests: Int64
) -> None:
    """Over many draws for one request, each item's frequency against what `log_rate` promises."""
    draws = 20_000
    histories = _histories(random_dataset, requests)[:, :6]
    line, bought, past = next(
        (n, bought, past)
        for n, request in enumerate(requests)
        if len(bought := _bought(random_dataset, request)) > FEW.positives
        and len((past := set(histories[n].tolist()) - {OOV}) - bought) > FEW.history_negatives
    )
    sampler = _sampler(random_dataset, FEW, seed=0)
    drawn = sampler.draw(np.full(draws, requests[line]), histories[[line] * draws])
    rows, valid = drawn.rows_BN.numpy(), drawn.valid_BN.numpy()
    rates = drawn.log_rate_BN.exp().numpy().astype(np.float64)
    kept = FEW.positives / len(bought)
    checked = {True: 0, False: 0}
    for row in range(1, len(random_dataset.items)):
        here = (rows == row) & valid
        frequency = here.any(axis=1).mean()
        (rate,) = set(rates[here].round(6).tolist())
        # The rate is relative to that of the bought ones: of those only a share is kept.
        expected = kept if row in bought else rate * kept
        error = np.sqrt(expected * (1 - expected) / draws)
        assert abs(frequency - expected) < 4 * error + 1e-6, row
        checked[row in past] += row not in bought
    assert min(checked.values()) > 2


def test_equal_seeds_draw_equally(random_dataset: PreparedDataset, requests: Int64) -> None:
    first, again, other = (_draw(random_dataset, requests, FEW, seed).rows_BN for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_popularity_counts_the_training_period_alone(corner: PreparedDataset) -> None:
    """Before validation `a` and `b` were bought twice each, later `a` more often."""
    drawn = _draw(corner, np.full(2_000, 5), CandidateConfig(random_negatives=1))
    negatives = drawn.rows_BN[~drawn.labels_BN & drawn.valid_BN]
    share = 0.5 * 2 / 4 + 0.5 * 1 / 2
    assert negatives.unique().tolist() == [2]  # `a` was bought
    assert abs(len(negatives) / 2_000 - share) < 4 * np.sqrt(share * (1 - share) / 2_000)
