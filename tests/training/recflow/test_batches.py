"""Batches against the arrays of the log, read request by request."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from training.recflow.batches import Batch, BatchStream
from training.recflow.config import RecFlowConfig, StageConfig
from training.recflow.log import LISTS, Day, PreparedLog
from training.recflow.negatives import draw_negatives

TWO = ("rank_pos", "rank_neg", "coarse_neg", "prerank_neg")
THREE = ("rerank_pos", "rerank_neg", "rank_neg", "coarse_neg", "prerank_neg")
LOST = {"rerank_neg": 8.0, "rank_neg": 7.0, "coarse_neg": 6.0, "prerank_neg": 5.0}


def configured(
    stages: int = 2, batch_size: int = 128, negatives: int = 0, epochs: int = 1, seed: int = 0
) -> RecFlowConfig:
    chosen = tuple(
        StageConfig(name=f"stage{i}", model="mlp", keep=40 - 10 * i) for i in range(stages)
    )
    return RecFlowConfig(
        name="a",
        stages=chosen,
        batch_size=batch_size,
        negatives=negatives,
        epochs=epochs,
        seed=seed,
    )


def stream(
    log: PreparedLog, config: RecFlowConfig, *, shuffle: bool = True, part: int = 0, parts: int = 1
) -> BatchStream:
    days, negatives = log.meta.days, config.negatives
    return BatchStream(
        log, days, config, shuffle=shuffle, negatives=negatives, part=part, parts=parts
    )


def batches(found: BatchStream) -> Iterator[Batch]:
    return (found.batch(step) for step in range(found.steps))


def equal(one: Batch, other: Batch) -> bool:
    pairs = zip((*one[:5], *one[5][:4], one[6]), (*other[:5], *other[5][:4], other[6]), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def judged(day: Day, row: int, lists: tuple[str, ...]) -> list[tuple[int, float, int]]:
    """Item, grade and depth of each slot."""
    slots = []
    for place, name in enumerate(lists):
        for slot in range(LISTS.index(name) * 10, LISTS.index(name) * 10 + 10):
            grade = LOST.get(name, 30.0 - min(day.ranks[row, slot], 20))
            slots.append((int(day.candidates[row, slot]), grade, len(lists) - place))
    return [slot if slot[0] else (0, 0.0, 0) for slot in slots]


@pytest.mark.parametrize("lists", [TWO, THREE])
def test_a_batch_is_what_the_log_says(prepared_log: PreparedLog, lists: tuple[str, ...]) -> None:
    log, config = prepared_log, configured(len(lists) - 2)
    days = [log.day(name) for name in log.meta.days]
    places = {int(r): (d, i) for d in days for i, r in enumerate(d.request_ids)}
    unplaced = 0
    for batch in batches(stream(log, config)):
        S = 10 * len(lists)
        assert torch.equal(batch.picks_BN, torch.arange(len(batch.pool_PF)).view(-1, S))
        pool_BSF = batch.pool_PF.view(-1, S, 8).numpy()
        known = [tensor.numpy() for tensor in batch.judgments[:4] if tensor is not None]
        for b, request in enumerate(batch.request_ids_B.tolist()):
            day, row = places[request]
            history_L = day.history[row]
            assert (batch.fields_BF[b].numpy() == day.fields[row]).all()
            assert (batch.history_BLF[b].numpy() == log.items_IF[history_L, :5]).all()
            assert (batch.history_mask_BL[b].numpy() == (history_L > 0)).all()
            items, grades, depths = zip(*judged(day, row, lists), strict=True)
            assert (pool_BSF[b] == log.items_IF[list(items)]).all()
            best = sorted(range(S), key=lambda s: (-grades[s], s))[:10]
            relevant = [s in best and items[s] > 0 for s in range(S)]
            for array_BN, expected in zip(
                known, (grades, depths, relevant, [i > 0 for i in items]), strict=True
            ):
                assert array_BN[b].tolist() == list(expected)
            winners = np.flatnonzero(items[:10])
            assert min((grades[s] for s in winners), default=30) > max(LOST[n] for n in lists[1:])
            start = 10 * LISTS.index(lists[0])
            unplaced += (day.ranks[row, start : start + 10][winners] == 255).sum()
    assert unplaced or len(lists) > 4  # The log has winners without a place.


def test_an_epoch_has_every_request_once_day_by_day(prepared_log: PreparedLog) -> None:
    log = prepared_log
    logged = [log.day(name).request_ids.tolist() for name in log.meta.days]
    plain = stream(log, configured(epochs=2), shuffle=False)
    sizes = [len(batch.request_ids_B) for batch in batches(plain)]
    assert sizes == 3 * [100, 100, 100]  # As few as hold 128 at most, and none much smaller.
    ids = [request for batch in batches(plain) for request in batch.request_ids_B.tolist()]
    assert ids == [request for day in logged for request in day]

    shuffled = stream(log, configured(epochs=2))
    assert shuffled.steps == 2 * plain.steps
    ids = [request for batch in batches(shuffled) for request in batch.request_ids_B.tolist()]
    epochs = [[ids[900 * e + 300 * d :][:300] for d in range(3)] for e in range(2)]
    for epoch in epochs:
        assert [sorted(day) for day in epoch] == [sorted(day) for day in logged]
    assert epochs[0][0] != epochs[1][0] != logged[0] != epochs[0][0]


def test_a_batch_depends_on_seed_and_step_alone(prepared_log: PreparedLog) -> None:
    config = configured(negatives=7, seed=3)
    first, second = stream(prepared_log, config), stream(prepared_log, config)
    second.batch(7)
    assert equal(first.batch(4), second.batch(4))
    assert equal(first.batch(7), second.batch(7))
    other = stream(prepared_log, configured(negatives=7, seed=4))
    assert not torch.equal(first.batch(4).request_ids_B, other.batch(4).request_ids_B)
    days = 2 * prepared_log.meta.days[:1]
    twice = BatchStream(prepared_log, days, config, shuffle=False, negatives=7)
    one, again = twice.batch(0), twice.batch(3)
    assert torch.equal(one.request_ids_B, again.request_ids_B)
    assert not torch.equal(one.picks_BN, again.picks_BN)


def test_negatives_are_other_requests_candidates(prepared_log: PreparedLog) -> None:
    log, n = prepared_log, 30
    for batch in batches(stream(log, configured(negatives=n))):
        items_P, S = batch.pool_PF[:, 0].numpy(), 40
        picks_BN = batch.picks_BN.numpy()
        own_BS = np.arange(len(items_P)).reshape(-1, S)
        assert (picks_BN[:, :S] == own_BS).all()
        drawn_BN = picks_BN[:, S:]
        assert (drawn_BN // S != np.arange(len(drawn_BN))[:, None]).all()
        assert all(len(set(drawn)) == n for drawn in drawn_BN.tolist())
        assert (items_P[drawn_BN] > 0).all()
        for items_N in items_P[picks_BN].tolist():
            assert not set(items_N[:S]) & set(items_N[S:])
        grades_BN, depth_BN, relevant_BN, valid_BN, _ = batch.judgments
        for tensor_BN, value in ((grades_BN, 0), (depth_BN, 0), (relevant_BN, 0), (valid_BN, 1)):
            assert tensor_BN.shape == batch.picks_BN.shape
            assert (tensor_BN[:, S:] == value).all()
        plain = stream(log, configured()).batch(0).judgments
    assert torch.equal(
        stream(log, configured(negatives=n)).batch(0).judgments.grades_BN[:, :S], plain.grades_BN
    )


@pytest.mark.parametrize("count", [2, 4])  # By rejection, and by shuffling.
def test_negatives_are_uniform(count: int) -> None:
    # Request 0 may have 3 of request 1's slots, which share item 2 with it, and all of request 2's,
    # whose 1025 only looks like 1.
    slots_BS = np.array([[1, 2, 0, 0], [2, 5, 6, 7], [8, 1025, 8, 0]], dtype=np.int32)
    allowed = [5, 6, 7, 8, 9, 10]
    random, runs = np.random.default_rng(0), 3000
    counts = np.zeros((count, 12))
    for _ in range(runs):
        for place, slot in enumerate(draw_negatives(slots_BS, count, random)[0]):
            counts[place, slot] += 1
    assert counts.sum() == counts[:, allowed].sum()
    expected = runs / 6
    chi_squared = ((counts[:, allowed] - expected) ** 2 / expected).sum(axis=1)
    assert (chi_squared < 20.5).all()  # 5 degrees of freedom: P = 0.001.


def test_parts_are_slices_of_one_batch(prepared_log: PreparedLog) -> None:
    config = configured(negatives=9)
    whole = stream(prepared_log, config)
    parts = [stream(prepared_log, config, part=i, parts=3) for i in range(3)]
    for step in range(whole.steps):
        batch, cut = whole.batch(step), [part.batch(step) for part in parts]
        assert [len(part.request_ids_B) for part in cut] == [33, 33, 34]
        for name in ("fields_BF", "history_BLF", "history_mask_BL", "request_ids_B"):
            joined = torch.cat([getattr(part, name) for part in cut])
            assert torch.equal(getattr(batch, name), joined)
        items = [part.pool_PF[part.picks_BN] for part in cut]
        assert torch.equal(batch.pool_PF[batch.picks_BN], torch.cat(items))
        for i in range(4):
            judged = [part.judgments[i] for part in cut]
            assert torch.equal(batch.judgments[i], torch.cat(judged))  # type: ignore[arg-type]
        assert all(len(part.pool_PF.unique(dim=0)) <= 40 * 34 + 9 * 34 + 1 for part in cut)


def test_what_cannot_be_is_refused(prepared_log: PreparedLog) -> None:
    with pytest.raises(ValueError, match=r"part == 2 must be in \[0, 2\) for parts == 2"):
        stream(prepared_log, configured(), part=2, parts=2)
    with pytest.raises(IndexError, match=r"step == 9 must be in \[0, 9\)"):
        stream(prepared_log, configured()).batch(9)
    greedy = stream(prepared_log, configured(batch_size=2, negatives=50))
    with pytest.raises(
        ValueError, match=r"negatives == 50 is more than the \d+ candidates .* raise"
    ):
        greedy.batch(0)
