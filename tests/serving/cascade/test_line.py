"""Rungs and deadlines of a real bundle: what each rung answers, and how it says so."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from serving.bundles.loading import load_funnel
from serving.cascade.admission import OverloadedError
from serving.cascade.deadline import Deadline
from serving.cascade.funnel import Funnel
from serving.cascade.ladder import Rung
from serving.cascade.line import Line
from serving.cascade.policy import Policy
from serving.cascade.query import Outcome, Query
from serving.state.feature_store import UserState
from tests.serving.unruled import no_rules
from tests.serving.world import write_tiny_bundle

NEWCOMER = UserState({}, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))
ENOUGH_MS = 10_000.0


@pytest.fixture
def funnel(tmp_path: Path) -> Funnel:
    return load_funnel(write_tiny_bundle(tmp_path / "tiny"), torch.device("cpu"), no_rules())


def query(**changes: Any) -> Query:  # noqa: ANN401
    plain = Query("r", NEWCOMER, {}, (), num=2, ts_us=0, policy=Policy(bundle="tiny"))
    return plain._replace(**changes)


def answered(funnel: Funnel, budget_ms: float, **changes: Any) -> Outcome:  # noqa: ANN401
    line = Line(funnel, max_batch=4)
    return asyncio.run(line.answer(query(**changes), Deadline.after(budget_ms)))


def test_nothing_is_left_out_when_there_is_time(funnel: Funnel) -> None:
    outcome = answered(funnel, ENOUGH_MS)
    assert outcome.item_ids == ("i11", "i10")
    assert outcome.degraded == ()
    assert [trace.name for trace in outcome.stages] == ["retrieval", "rank"]


@pytest.mark.parametrize(
    ("recall_ms", "rank_ms", "items", "reason", "stages"),
    [
        # The two best of ten recalled: a quarter of them, rounded.
        (1.0, 20_000.0, ("i2", "i1"), "ladder:fewer", ["retrieval", "rank"]),
        (1.0, 90_000.0, ("i1", "i2"), "ladder:retrieval", ["retrieval"]),
        (20_000.0, 1.0, ("i1", "i2"), "ladder:popular", []),
    ],
)
def test_rungs(
    funnel: Funnel,
    recall_ms: float,
    rank_ms: float,
    items: tuple[str, ...],
    reason: str,
    stages: list[str],
) -> None:
    funnel.pace.note(Rung.WHOLE, recall_ms, rank_ms)
    outcome = answered(funnel, ENOUGH_MS)
    assert outcome.item_ids == items
    assert outcome.degraded == (reason,)
    assert [trace.name for trace in outcome.stages] == stages


def test_a_popular_answer_leaves_out_what_is_excluded(funnel: Funnel) -> None:
    funnel.pace.note(Rung.WHOLE, 20_000.0, 1.0)
    outcome = answered(funnel, ENOUGH_MS, exclude=("i1", "i4"))
    assert outcome.item_ids == ("i2", "i5")


def test_a_deadline_that_has_passed_is_refused(funnel: Funnel) -> None:
    with pytest.raises(OverloadedError, match=r"the deadline passed \d+ ms before .*; try again"):
        answered(funnel, -5.0)


async def _together(line: Line) -> list[Outcome]:
    asked = [query(request_id=f"r{n}", num=n % 4 + 1) for n in range(9)]
    deadline = Deadline.after(ENOUGH_MS)
    return list(await asyncio.gather(*(line.answer(q, deadline) for q in asked)))


def test_requests_that_run_together_get_what_they_get_alone(funnel: Funnel) -> None:
    line = Line(funnel, max_batch=4)
    for n, outcome in enumerate(asyncio.run(_together(line))):
        alone = answered(funnel, ENOUGH_MS, request_id=f"r{n}", num=n % 4 + 1)
        assert outcome._replace(latency_us={}) == alone._replace(latency_us={})


def test_one_of_a_batch_that_cannot_be_ranked_does_not_spoil_the_others(funnel: Funnel) -> None:
    async def both() -> list[Outcome]:
        line = Line(funnel, max_batch=4)
        deadline = Deadline.after(ENOUGH_MS)
        asked = [query(context={"mode": mode}) for mode in ("fail", "", "nan")]
        return list(await asyncio.gather(*(line.answer(q, deadline) for q in asked)))

    failed, good, not_finite = asyncio.run(both())
    assert good.item_ids == ("i11", "i10")
    assert good.degraded == ()
    for outcome in (failed, not_finite):
        assert outcome.item_ids == ("i1", "i2")
        assert outcome.degraded == ("rank_failed:rank",)


def test_queries_of_several_rungs_keep_their_order(funnel: Funnel) -> None:
    rungs = (Rung.POPULAR, Rung.WHOLE, Rung.RETRIEVAL, Rung.WHOLE)
    outcomes = funnel.run([query(rung=rung) for rung in rungs])
    assert [outcome.degraded for outcome in outcomes] == [rung.reason for rung in rungs]
    assert [outcome.item_ids[0] for outcome in outcomes] == ["i1", "i11", "i1", "i11"]
