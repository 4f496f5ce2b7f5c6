"""Self-test: a bundle answers before it may answer users."""

import math
import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from serving.bundles.recording import Recorded
from serving.cascade.funnel import Funnel
from serving.cascade.ladder import Rung
from serving.cascade.policy import Policy
from serving.cascade.query import Outcome, Query
from serving.cascade.rerank.choice import CAP_BROKEN
from serving.state.feature_store import UserState
from training.bundle import BundleError
from training.features import item_keys

LIMIT_MS = 1000.0
"""Far more than users should wait, because the test shares the processor with the traffic: it finds
what hangs, not what is slow."""
TOGETHER = 8
"""Requests that are also answered in one batch."""


class SelfTestError(BundleError):
    """A bundle gave an answer that must not reach a user; the message says which and why."""


class Passed(NamedTuple):
    """What a passed test was."""

    requests: int
    median_ms: float
    """Of a request alone."""


def self_test(funnel: Funnel, recorded: Sequence[Recorded], limit_ms: float = LIMIT_MS) -> Passed:
    """Answer recorded requests and made-up ones, alone and together.

    Args:
        funnel: warmed up, and used by nobody else meanwhile.
        recorded: requests that were answered by the bundle that serves now.
        limit_ms: most that half of the requests may take, each alone.

    Raises:
        SelfTestError: a score is not finite, an item is unavailable, excluded or doubled, the
            number of items is wrong, a stage failed, or the answers are far too slow.
    """
    cases = [*recorded, *(Recorded(query, ()) for query in _made_up(funnel))]
    cases = [c._replace(query=c.query._replace(rung=Rung.WHOLE, explain=False)) for c in cases]
    took_ms = []
    for case in cases:
        started_ns = time.perf_counter_ns()
        [outcome] = _run(funnel, [case.query])
        took_ms.append((time.perf_counter_ns() - started_ns) / 1_000_000)
        _check(funnel, case, outcome)
    together = cases[:TOGETHER]
    for case, outcome in zip(together, _run(funnel, [c.query for c in together]), strict=True):
        _check(funnel, case, outcome)
    if median(took_ms) > limit_ms:
        raise SelfTestError(
            f"{funnel.bundle} takes {median(took_ms):.0f} ms for one request, the limit is "
            f"{limit_ms:.0f}; export it with smaller stages"
        )
    return Passed(len(cases), median(took_ms))


def _run(funnel: Funnel, queries: Sequence[Query]) -> list[Outcome]:
    try:
        return funnel.run(queries)
    except Exception as error:  # whatever it is, it would have been an answer to a user
        raise SelfTestError(
            f"{funnel.bundle} fails on a request ({error!r}); export the run again"
        ) from error


def _check(funnel: Funnel, case: Recorded, outcome: Outcome) -> None:
    items, query = funnel.items, case.query
    # Whether a cap can be kept is a question of the rules and the stock, not of the bundle.
    known = (*case.degraded, CAP_BROKEN)
    new = [reason for reason in outcome.degraded if not reason.startswith(known)]
    if new:
        raise SelfTestError(f"{funnel.bundle} answers with {new[0]}; export the run again")
    if not all(math.isfinite(score) for score in outcome.scores):
        raise SelfTestError(
            f"{funnel.bundle} gives scores that are not finite; export the run again"
        )
    allowed_R = items.available_R.copy()
    allowed_R[[items.index.row(item_id) for item_id in query.exclude]] = False
    for item_id in outcome.item_ids:
        if not allowed_R[items.index.row(item_id)]:
            raise SelfTestError(
                f"{funnel.bundle} recommends {item_id!r}, which is unavailable or excluded; "
                "export the run again"
            )
    allowed_R[funnel.blocked_rows(query)] = False
    expected = min(query.num, int(allowed_R.sum()))
    if not len(set(outcome.item_ids)) == len(outcome.item_ids) == expected:
        raise SelfTestError(
            f"{funnel.bundle} gives {len(set(outcome.item_ids))} different items in "
            f"{len(outcome.item_ids)} places where {expected} exist; export the run again"
        )


def _made_up(funnel: Funnel) -> list[Query]:
    """A newcomer, and somebody who took the first items of the catalogue."""
    now_us = int(funnel.manifest.created.timestamp() * 1_000_000)
    policy = Policy(bundle=funnel.manifest.name)
    taken = item_keys(funnel.items.index.item_ids[: funnel.manifest.features.history_length])
    queries = []
    for keys in (taken[:0], taken):
        user = UserState({}, keys, np.full(len(keys), now_us - 1, dtype=np.int64))
        queries += [Query("self-test", user, {}, (), num, now_us, policy) for num in (1, 20)]
    return queries
