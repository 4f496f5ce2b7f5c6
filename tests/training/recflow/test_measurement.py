"""Measurement: which requests and candidates are measured, and that time does not leak."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.recflow.batches import Batch, BatchStream, slots
from training.recflow.cascade import build_cascade
from training.recflow.config import RecFlowConfig, StageConfig
from training.recflow.log import (
    DAYS,
    HISTORY_FIELDS,
    ITEM_FIELDS,
    ITEMS,
    REQUEST_FIELDS,
    Day,
    PreparedLog,
)
from training.recflow.measurement import EvaluationError, Measured, measure
from training.recflow.metrics import Protocol

CONFIG = RecFlowConfig(name="tiny", units=4, embedding_width=2)
RERANKED = CONFIG.model_copy(
    update={
        "stages": (
            StageConfig(name="retrieval", model="dssm", keep=40),
            StageConfig(name="prerank", model="mlp", keep=30),
            StageConfig(name="rank", model="din", keep=20),
        )
    }
)


def change(
    log: PreparedLog, folder: Path, day: str, column: str, edit: Callable[[NDArray[Any]], object]
) -> None:
    """Copy a log, and edit one column of a day."""
    if not folder.exists():
        shutil.copytree(log.path, folder)
    array = np.load(folder / DAYS / day / f"{column}.npy")
    edit(array)
    np.save(folder / DAYS / day / f"{column}.npy", array)


def equal(one: Measured, other: Measured) -> bool:
    return all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True)
    )


def filled_ids(log: PreparedLog, day: str) -> list[int]:
    arrays = log.day(day)
    columns = np.concatenate([np.r_[column] for column in slots(2).columns])
    ids: list[int] = arrays.request_ids[(arrays.candidates[:, columns] > 0).any(axis=1)].tolist()
    return ids


def seer(batch: Batch) -> list[Tensor]:
    return [batch.judgments.grades_BN] * 2


def reranking_seer(batch: Batch) -> list[Tensor]:
    return [batch.judgments.grades_BN] * 3


def test_candidates_and_requests_of_both_protocols(prepared_log: PreparedLog) -> None:
    day = prepared_log.meta.days[-1]
    ids = prepared_log.day(day).request_ids
    seen: list[Batch] = []

    def watcher(batch: Batch) -> list[Tensor]:
        seen.append(batch)
        return seer(batch)

    told: list[tuple[int, int]] = []
    strict = measure(
        watcher, prepared_log, CONFIG, day, "strict", batch_size=128,
        advance=lambda *progress: told.append(progress),
    )  # fmt: skip
    assert strict.request_ids_R.tolist() == filled_ids(prepared_log, day)
    assert strict.left_out == len(ids) - len(strict.request_ids_R)
    assert told[-1] == (len(ids), len(ids))
    assert {batch.picks_BN.shape[1] for batch in seen} == {200}
    # Who scores by the grades keeps and ranks everything right.
    assert strict.joint_recall_R.min() == strict.recall_SR.min() == 1
    assert strict.ndcg_SR.min() == pytest.approx(1)
    users = dict(zip(ids.tolist(), prepared_log.day(day).fields[:, 3].tolist(), strict=True))
    assert strict.users_R.tolist() == [users[id_] for id_ in strict.request_ids_R.tolist()]

    seen.clear()
    paper = measure(watcher, prepared_log, CONFIG, day, "paper", batch_size=128)
    whole = len(ids) // 128 * 128
    assert paper.request_ids_R.tolist() == ids[:whole].tolist()
    assert {tuple(batch.picks_BN.shape) for batch in seen} == {(128, 200)}
    negatives_BN = seen[0].picks_BN[:, 40:]
    assert ((negatives_BN // 40) != torch.arange(128)[:, None]).all()
    assert not torch.equal(negatives_BN - 40 * 128, seen[1].picks_BN[:, 40:] - 40 * 128)
    assert seen[0].judgments.valid_BN[:, 40:].all()
    assert not seen[0].judgments.grades_BN[:, 40:].any()

    reranked = measure(reranking_seer, prepared_log, RERANKED, day, "paper", batch_size=128)
    assert reranked.recall_SR.shape == (3, whole)
    assert reranked.joint_recall_R.min() == 1


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_the_run_does_not_choose_its_candidates(
    prepared_log: PreparedLog, protocol: Protocol
) -> None:
    """Batch size, negatives and seed of a configuration are those of training alone."""
    torch.manual_seed(0)
    days = prepared_log.meta.days
    cascade = build_cascade(prepared_log, CONFIG, days[1]).eval()
    other = CONFIG.model_copy(update={"seed": 7, "batch_size": 32, "negatives": 9})
    one, two = (
        measure(cascade, prepared_log, config, days[2], protocol, batch_size=100)
        for config in (CONFIG, other)
    )
    assert equal(one, two)


def test_requests_without_candidates_are_left_out_and_counted(
    prepared_log: PreparedLog, tmp_path: Path
) -> None:
    day = prepared_log.meta.days[-1]
    before = measure(seer, prepared_log, CONFIG, day, "strict", batch_size=100)
    change(
        prepared_log, tmp_path / "log", day, "candidates", lambda slots_RS: slots_RS[5:7].fill(0)
    )
    emptied = PreparedLog(tmp_path / "log")
    found = measure(seer, emptied, CONFIG, day, "strict", batch_size=100)
    gone = emptied.day(day).request_ids[5:7]
    assert found.left_out == before.left_out + np.isin(gone, before.request_ids_R).sum()
    assert set(before.request_ids_R) - set(found.request_ids_R) <= set(gone)
    assert found.recall_SR.shape == found.ndcg_SR.shape == (2, len(found.users_R))
    change(emptied, tmp_path / "bare", day, "candidates", lambda slots_RS: slots_RS.fill(0))
    with pytest.raises(EvaluationError, match=f"no request of {day} in .*bare has a candidate; ch"):
        measure(reranking_seer, PreparedLog(tmp_path / "bare"), RERANKED, day, "strict")


def test_published_ndcg_expects_empty_slots_first(
    prepared_log: PreparedLog, tmp_path: Path
) -> None:
    """An empty slot in the winners' list is labelled like the first place; 0 is all it scores."""
    day = prepared_log.meta.days[-1]
    winners = slots(2).columns[0]
    folder = tmp_path / "log"
    change(prepared_log, folder, day, "candidates", lambda array: array[:, winners].fill(0))
    short = PreparedLog(folder)
    assert measure(seer, short, CONFIG, day, "paper", batch_size=100).ndcg_SR.max() < 1
    assert measure(seer, short, CONFIG, day, "strict", batch_size=100).ndcg_SR.min() > 0.999


def test_limit_is_spaced_over_the_day(prepared_log: PreparedLog) -> None:
    day = prepared_log.meta.days[0]
    ids = prepared_log.day(day).request_ids
    found = measure(seer, prepared_log, CONFIG, day, "strict", limit=60, batch_size=32)
    spaced = ids[np.arange(60) * len(ids) // 60]
    assert found.request_ids_R.tolist() == [i for i in spaced if i in filled_ids(prepared_log, day)]
    found = measure(seer, prepared_log, CONFIG, day, "paper", limit=70, batch_size=32)
    assert found.request_ids_R.tolist() == ids[np.arange(70) * len(ids) // 70][:64].tolist()


def test_days_that_are_refused(prepared_log: PreparedLog) -> None:
    day = prepared_log.meta.days[0]
    message = (
        f"{prepared_log.meta.requests[0]} requests of {day} are to be measured, fewer than a batch "
        "of 1024, and the paper protocol leaves out what does not fill a batch; measure more, or "
        "by the strict protocol"
    )
    with pytest.raises(EvaluationError, match=message):
        measure(seer, prepared_log, CONFIG, day, "paper")
    with pytest.raises(EvaluationError, match=f"0 requests of {day} are to be measured; give at"):
        measure(seer, prepared_log, CONFIG, day, "strict", limit=0)


def test_what_comes_after_the_test_day_changes_nothing(
    prepared_log: PreparedLog, tmp_path: Path
) -> None:
    """Trained until the first day, tested on the second; the third is rewritten."""
    _, day, later = prepared_log.meta.days
    folder = tmp_path / "log"
    for column in Day._fields:
        change(
            prepared_log, folder, later, column, lambda array: np.copyto(array, array[::-1] // 2)
        )
    items_IF = np.load(folder / ITEMS)
    items_IF[prepared_log.meta.items[1] :] = 1
    np.save(folder / ITEMS, items_IF)
    found = measure_untrained(prepared_log, day)
    assert equal(found, measure_untrained(PreparedLog(folder), day))
    change(prepared_log, folder, day, "history", lambda array: array.fill(0))
    assert not equal(found, measure_untrained(PreparedLog(folder), day))


def measure_untrained(log: PreparedLog, day: str) -> Measured:
    torch.manual_seed(0)
    cascade = build_cascade(log, CONFIG, log.meta.days[0]).eval()
    return measure(cascade, log, CONFIG, day, "strict", batch_size=100)


def test_rows_first_seen_after_training_are_unknown(prepared_log: PreparedLog) -> None:
    first, day = prepared_log.meta.days[:2]
    known = {field: rows[0] for field, rows in prepared_log.meta.vocabularies.items()}

    def forget(rows_XF: Tensor, fields: Sequence[str]) -> Tensor:
        return rows_XF * (rows_XF < torch.tensor([known[field] for field in fields]))

    torch.manual_seed(0)
    cascade = build_cascade(prepared_log, CONFIG, first).eval()
    batch = BatchStream(prepared_log, [day], CONFIG, shuffle=False, negatives=20).batch(0)
    forgotten = batch._replace(
        fields_BF=forget(batch.fields_BF, REQUEST_FIELDS),
        history_BLF=forget(batch.history_BLF, HISTORY_FIELDS),
        pool_PF=forget(batch.pool_PF, ITEM_FIELDS),
    )
    assert not forgotten.pool_PF.equal(batch.pool_PF)
    for scores_BN, expected_BN in zip(cascade(batch), cascade(forgotten), strict=True):
        assert scores_BN.equal(expected_BN)
