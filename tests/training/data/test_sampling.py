"""Candidates to train on: who is drawn, what competes, and whether `log_rate` says how often."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.config import CandidateConfig
from training.data.dataset import PreparedDataset, Split
from training.data.logged import Depth, Logged
from training.data.requests import request_tensors
from training.data.sampling import CandidateList, Candidates, CandidateSampler, Int64
from training.features import OOV

LENGTH = 6
RECALLED = 8
FEW = CandidateConfig(
    positives=2, history_negatives=2, recalled_negatives=2, random_negatives=3
)  # fmt: skip
MANY = CandidateConfig()


@pytest.fixture
def requests(random_dataset: PreparedDataset) -> Int64:
    return random_dataset.requests(Split.TRAIN)


@pytest.fixture
def recalled(random_dataset: PreparedDataset, requests: Int64) -> Int64:
    """int64 [B, 8]: what retrieval might recall, of 11 items."""
    draw = np.random.default_rng(0)
    items = len(random_dataset.items) - 1
    return np.stack([draw.permutation(items)[:RECALLED] + 1 for _ in requests])


def _sampler(dataset: PreparedDataset, config: CandidateConfig, seed: int = 0) -> CandidateSampler:
    return CandidateSampler(dataset.arrays, dataset.meta.validation_start_us, config, seed)


def _histories(dataset: PreparedDataset, requests: Int64) -> Int64:
    rows: Int64 = request_tensors(dataset.arrays, requests, LENGTH).history_rows_BL.numpy()
    return rows


def _draw(
    dataset: PreparedDataset,
    requests: Int64,
    recalled: Int64,
    config: CandidateConfig,
    seed: int = 0,
) -> Candidates:
    histories = _histories(dataset, requests)
    return _sampler(dataset, config, seed).draw(requests, histories, recalled)


def _bought(dataset: PreparedDataset, request: int) -> set[int]:
    starts = dataset.arrays.truth_starts
    return set(dataset.arrays.truth_rows[starts[request] : starts[request + 1]].tolist())


def _sides(
    dataset: PreparedDataset, requests: Int64, recalled: Int64
) -> Iterator[tuple[set[int], set[int], set[int]]]:
    """What each request bought, had before, and is recalled."""
    lines = zip(
        requests.tolist(), _histories(dataset, requests).tolist(), recalled.tolist(), strict=True
    )
    for request, history, recall in lines:
        yield _bought(dataset, request), set(history) - {OOV}, set(recall)


def _lines(drawn: CandidateList) -> Iterator[tuple[set[int], set[int], set[int]]]:
    """Rows of each request that were bought, that were not, and that compete."""
    for rows, labels, competes in zip(
        drawn.rows_BN, drawn.labels_BN, drawn.competes_BN, strict=True
    ):
        known = rows != OOV
        assert len(rows[known].unique()) == int(known.sum())
        assert not (labels & ~known).any()
        assert not (competes & ~known).any()
        yield _set(rows[labels]), _set(rows[known & ~labels]), _set(rows[competes])


def _set(rows: Tensor) -> set[int]:
    return set(rows.tolist())


@pytest.mark.parametrize("config", [FEW, MANY])
def test_ranking_draws_from_what_was_bought_the_past_and_the_recalled(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64, config: CandidateConfig
) -> None:
    drawn = _draw(random_dataset, requests, recalled, config)
    sides = _sides(random_dataset, requests, recalled)
    kinds = np.zeros(3, dtype=np.int64)
    for (bought, past, recall), (positives, negatives, competing) in zip(
        sides, _lines(drawn.rank), strict=True
    ):
        assert positives <= bought
        assert len(positives) == min(len(bought), config.positives)
        assert negatives <= (past | recall) - bought
        assert len(negatives & past) == min(len(past - bought), config.history_negatives)
        fresh = recall - bought - past
        assert len(negatives - past) == min(len(fresh), config.recalled_negatives)
        assert competing == (positives | negatives) & (past | recall)
        kinds += [len(positives - competing), len(negatives & past), len(negatives - past)]
    assert kinds.min() > 20  # the world holds every kind


@pytest.mark.parametrize("config", [FEW, MANY])
def test_retrieval_draws_what_was_bought_and_random_items_that_are_new(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64, config: CandidateConfig
) -> None:
    drawn = _draw(random_dataset, requests, recalled, config)
    sides = _sides(random_dataset, requests, recalled)
    unrecalled = 0
    for (bought, past, recall), (positives, negatives, competing) in zip(
        sides, _lines(drawn.retrieval), strict=True
    ):
        assert positives <= bought
        assert len(positives) == min(len(bought), config.positives)
        assert not negatives & (bought | past)
        assert len(negatives) <= config.random_negatives
        assert competing == (positives | negatives) - past
        unrecalled += len(negatives - recall)
    assert unrecalled > 20


def test_both_lists_hold_the_same_bought_items(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64
) -> None:
    drawn = _draw(random_dataset, requests, recalled, FEW)
    retrieval, rank = (met.rows_BN[:, : FEW.positives] for met in (drawn.retrieval, drawn.rank))
    assert retrieval.equal(rank)
    for met in (drawn.retrieval, drawn.rank):
        assert not met.labels_BN[:, FEW.positives :].any()


def test_in_history_is_over_the_list_of_ranking(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64
) -> None:
    drawn = _draw(random_dataset, requests, recalled, FEW)
    sides = _sides(random_dataset, requests, recalled)
    for (_, past, _), rows, in_history in zip(
        sides, drawn.rank.rows_BN, drawn.in_history_BN, strict=True
    ):
        assert in_history.tolist() == [row in past for row in rows.tolist()]


@pytest.mark.parametrize("config", [FEW, MANY])
def test_a_shared_list_is_rankings_and_random_items_that_no_stage_passes(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64, config: CandidateConfig
) -> None:
    own = _draw(random_dataset, requests, recalled, config).rank
    drawn = _draw(random_dataset, requests, recalled, config.model_copy(update={"shared": True}))
    assert drawn.retrieval is drawn.rank
    width = own.rows_BN.shape[1]
    for field, whole in zip(own, drawn.rank, strict=True):
        assert whole[:, :width].equal(field)
    random = drawn.rank.rows_BN[:, width:]
    assert random.shape[1] == config.random_negatives
    assert not drawn.rank.labels_BN[:, width:].any()
    assert not drawn.rank.competes_BN[:, width:].any()
    assert not drawn.in_history_BN[:, width:].any()
    sides = _sides(random_dataset, requests, recalled)
    for (bought, past, recall), rows in zip(sides, random, strict=True):
        assert not _set(rows[rows != OOV]) & (bought | past | recall)
    assert (random != OOV).sum() > 20
    assert drawn.rank.log_rate_BN.isfinite().all()
    list(_lines(drawn.rank))


def test_no_past_where_none_is_wanted(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64
) -> None:
    config = CandidateConfig(history_negatives=0)
    drawn = _draw(random_dataset, requests, recalled, config)
    assert not (drawn.in_history_BN & ~drawn.rank.labels_BN).any()
    for met in (drawn.retrieval, drawn.rank):
        assert met.log_rate_BN.isfinite().all()


def test_no_requests_have_no_candidates(random_dataset: PreparedDataset) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    drawn = _sampler(random_dataset, FEW).draw(
        nothing, np.zeros((0, 3), int), np.zeros((0, 4), int)
    )
    assert drawn.rank.rows_BN.shape[0] == drawn.retrieval.rows_BN.shape[0] == 0


class TestLogRate:
    """Over many draws for one request, how often each item is drawn against what is promised."""

    DRAWS = 20_000

    @pytest.fixture
    def line(self, random_dataset: PreparedDataset, requests: Int64, recalled: Int64) -> int:
        """A request where a part of every kind is drawn."""
        sides = _sides(random_dataset, requests, recalled)
        return next(
            n
            for n, (bought, past, recall) in enumerate(sides)
            if len(bought) > FEW.positives
            and len(past - bought) > FEW.history_negatives
            and len(recall - past - bought) > FEW.recalled_negatives
            and recall & past - bought
        )

    @pytest.fixture
    def drawn(
        self, random_dataset: PreparedDataset, requests: Int64, recalled: Int64, line: int
    ) -> Candidates:
        histories = _histories(random_dataset, requests)
        many = [line] * self.DRAWS
        sampler = _sampler(random_dataset, FEW)
        return sampler.draw(requests[many], histories[many], recalled[many])

    def _check(
        self, drawn: CandidateList, bought: set[int], negatives: set[int], items: int
    ) -> None:
        rows_BN = drawn.rows_BN.numpy()
        rates_BN = drawn.log_rate_BN.double().exp().numpy()
        kept = FEW.positives / len(bought)
        for row in range(1, items):
            here = rows_BN == row
            frequency = here.any(axis=1).mean()
            if row not in bought | negatives:
                assert frequency == 0, row
                continue
            (rate,) = set(rates_BN[here].round(6).tolist())
            # The rate is relative to that of the bought ones: of those only a share is kept.
            expected = kept if row in bought else rate * kept
            error = np.sqrt(expected * (1 - expected) / self.DRAWS)
            assert abs(frequency - expected) < 4 * error + 1e-6, row

    def test_of_ranking(
        self,
        random_dataset: PreparedDataset,
        requests: Int64,
        recalled: Int64,
        line: int,
        drawn: Candidates,
    ) -> None:
        bought, past, recall = list(_sides(random_dataset, requests, recalled))[line]
        items = len(random_dataset.items)
        self._check(drawn.rank, bought, (past | recall) - bought, items)

    def test_of_retrieval(
        self,
        random_dataset: PreparedDataset,
        requests: Int64,
        recalled: Int64,
        line: int,
        drawn: Candidates,
    ) -> None:
        bought, past, _ = list(_sides(random_dataset, requests, recalled))[line]
        items = len(random_dataset.items)
        self._check(drawn.retrieval, bought, set(range(1, items)) - past - bought, items)

    def test_tells_nothing_of_what_was_bought(
        self, random_dataset: PreparedDataset, requests: Int64, recalled: Int64
    ) -> None:
        """Of a bought item it says how often it would be drawn, had it not been bought."""
        drawn = _draw(random_dataset, requests, recalled, FEW)
        sizes = [len(_bought(random_dataset, request)) for request in requests.tolist()]
        kept_B1 = np.minimum(1, FEW.positives / np.array(sizes))[:, None]

        def rates(met: CandidateList, key: Callable[[int, int], object]) -> list[set[float]]:
            found: dict[object, set[float]] = {}
            rates_BN = (met.log_rate_BN.exp().numpy() * kept_B1).round(5)
            for b, n in np.argwhere(met.rows_BN.numpy() != OOV).tolist():
                found.setdefault(key(b, n), set()).add(float(rates_BN[b, n]))
            return list(found.values())

        in_history: NDArray[np.bool_] = drawn.in_history_BN.numpy()
        by_source = rates(drawn.rank, lambda b, n: (b, bool(in_history[b, n])))
        rows: Int64 = drawn.retrieval.rows_BN.numpy()
        by_item = rates(drawn.retrieval, lambda b, n: int(rows[b, n]))
        for groups in (by_source, by_item):
            assert len(groups) > 5
            assert {len(group) for group in groups} == {1}


def test_equal_seeds_draw_equally(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64
) -> None:
    first, again, other = (
        torch.cat([met.rows_BN for met in (drawn.retrieval, drawn.rank)], dim=1)
        for drawn in (_draw(random_dataset, requests, recalled, FEW, seed) for seed in (1, 1, 2))
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_popularity_counts_the_training_period_alone(corner: PreparedDataset) -> None:
    """Before validation `a` and `b` were bought twice each, later `a` more often."""
    draws = 2_000
    sampler = _sampler(corner, CandidateConfig(random_negatives=1))
    no_history, both = np.full((draws, 1), OOV), np.tile([1, 2], (draws, 1))
    drawn = sampler.draw(np.full(draws, 5), no_history, both).retrieval
    negatives = drawn.rows_BN[~drawn.labels_BN & drawn.competes_BN]
    share = 0.5 * 2 / 4 + 0.5 * 1 / 2
    assert negatives.unique().tolist() == [2]  # `a` was bought
    assert abs(len(negatives) / draws - share) < 4 * np.sqrt(share * (1 - share) / draws)


@pytest.fixture
def logged(random_dataset: PreparedDataset) -> Logged:
    """Of every request six items: a depth for each, what was bought seen."""
    draw = np.random.default_rng(1)
    requests, items = len(random_dataset.arrays.request_ts_us), len(random_dataset.items) - 1
    rows, depths = [], []
    for request in range(requests):
        chosen = np.sort(draw.permutation(items)[:6] + 1)
        bought = np.isin(chosen, list(_bought(random_dataset, request)))
        rows.append(chosen)
        depths.append(np.where(bought, Depth.SEEN, draw.permutation([0, 1, 1, 2, 3, 3])))
    return Logged(
        starts=np.arange(requests + 1, dtype=np.int64) * 6,
        rows=np.concatenate(rows).astype(np.int32),
        depths=np.concatenate(depths).astype(np.int8),
    )


def _of_log(
    dataset: PreparedDataset, requests: Int64, recalled: Int64, config: CandidateConfig, log: Logged
) -> Candidates:
    sampler = CandidateSampler(dataset.arrays, dataset.meta.validation_start_us, config, 0, log)
    return sampler.draw(requests, _histories(dataset, requests), recalled)


def _at_depth(log: Logged, request: int, depth: Depth) -> set[int]:
    entries = slice(log.starts[request], log.starts[request + 1])
    return set(log.rows[entries][log.depths[entries] == depth].tolist())


def test_of_a_log_ranking_meets_what_was_seen_and_some_of_what_it_dropped(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64, logged: Logged
) -> None:
    rank = _of_log(random_dataset, requests, recalled, MANY, logged).rank
    for line, request in enumerate(requests.tolist()):
        rows = rank.rows_BN[line]
        bought = _bought(random_dataset, request)
        seen = _at_depth(logged, request, Depth.SEEN)
        dropped = _at_depth(logged, request, Depth.DROPPED_BY_RANK)
        assert set(rows[rows != OOV].tolist()) == bought | seen | dropped
        assert set(rows[rank.labels_BN[line]].tolist()) == bought
        assert (rank.competes_BN[line] == (rows != OOV)).all()
    # All of them stand in the list, so none is corrected for.
    assert not rank.log_rate_BN.any()


def test_of_a_log_fewer_are_drawn_at_their_rate(
    random_dataset: PreparedDataset, requests: Int64, recalled: Int64, logged: Logged
) -> None:
    few = CandidateConfig(positives=6, recalled_negatives=1, dropped_negatives=1)
    rank = _of_log(random_dataset, requests, recalled, few, logged).rank
    for line, request in enumerate(requests.tolist()):
        bought = _bought(random_dataset, request)
        seen = _at_depth(logged, request, Depth.SEEN) - bought
        dropped = _at_depth(logged, request, Depth.DROPPED_BY_RANK)
        rows = set(rank.rows_BN[line].tolist()) - {OOV}
        assert len(rows & seen) == min(1, len(seen))
        assert len(rows & dropped) == min(1, len(dropped))
        found = rank.log_rate_BN[line][torch.isin(rank.rows_BN[line], torch.tensor(sorted(seen)))]
        if seen:
            assert found.tolist() == pytest.approx([np.log(1 / len(seen))])
