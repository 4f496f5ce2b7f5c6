"""Line: requests that wait for one bundle, answered in batches within their deadlines."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from serving.cascade.admission import OverloadedError, retry_after_s
from serving.cascade.batching import Batcher
from serving.cascade.deadline import Deadline
from serving.cascade.funnel import Funnel
from serving.cascade.query import Outcome, Query


class _Place(NamedTuple):
    query: Query
    deadline: Deadline


class _Late(NamedTuple):
    late_ms: float


class Line:
    """The line in front of one funnel.

    Nothing in it refers back to it, so the funnel is freed with the last request that holds it.
    """

    def __init__(self, funnel: Funnel, max_batch: int) -> None:
        """Answer at most `max_batch` requests at once."""
        self.funnel = funnel
        self._batcher: Batcher[_Place, Outcome | _Late] = Batcher(partial(_run, funnel), max_batch)

    async def answer(self, query: Query, deadline: Deadline) -> Outcome:
        """The outcome of a query, from the best rung that its deadline allows.

        Raises:
            OverloadedError: the deadline passed while it waited.
        """
        outcome = await self._batcher.submit(_Place(query, deadline))
        if isinstance(outcome, _Late):
            raise OverloadedError(
                "deadline",
                f"the deadline passed {outcome.late_ms:.0f} ms before the request's turn; "
                "try again after the time in Retry-After, or allow more time in X-Deadline-Ms",
                retry_after_s(len(self._batcher) * self.funnel.pace.request_ms),
            )
        return outcome


async def _run(funnel: Funnel, places: Sequence[_Place]) -> Sequence[Outcome | _Late]:
    # Compute holds the loop: a hop to a thread costs more than it gives on a busy worker.
    budgets_ms = [place.deadline.remaining_ms() for place in places]
    in_time = [n for n, budget_ms in enumerate(budgets_ms) if budget_ms > 0]
    queries = []
    for n in in_time:
        # All of a batch are done when the last one is.
        rung = funnel.pace.rung(budgets_ms[n] / len(in_time))
        queries.append(places[n].query._replace(rung=rung))
    outcomes = dict(zip(in_time, funnel.run(queries), strict=True))
    return [outcomes.get(n) or _Late(-budgets_ms[n]) for n in range(len(places))]
