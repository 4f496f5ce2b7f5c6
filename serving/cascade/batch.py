"""Batch: many requests of one call, answered beside the others without crowding them out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from serving.api.schemas import Problem, RecommendRequest
from serving.cascade.admission import OverloadedError
from serving.cascade.cascade import Answer
from serving.cascade.deadline import Deadline

Recommend = Callable[[RecommendRequest, Deadline], Awaitable[Answer]]


class Batch:
    """Answers lists of requests, a few at a time."""

    def __init__(self, recommend: Recommend, *, abreast: int, deadline_ms: float) -> None:
        """Ask `recommend` for at most `abreast` answers at a time.

        Args:
            recommend: answers one request within a deadline.
            abreast: what one call may keep under way, so that it leaves room for others.
            deadline_ms: time for each request from its turn on, where the call does not say.
        """
        self._recommend = recommend
        self._abreast = abreast
        self._deadline_ms = deadline_ms

    async def answer(
        self, requests: Sequence[RecommendRequest], deadline_ms: float | None
    ) -> list[dict[str, object]]:
        """A `BatchEntry` for each request, in their order.

        Args:
            requests: what is asked for.
            deadline_ms: time for all of them together, from now.
        """
        common = None if deadline_ms is None else Deadline.after(deadline_ms)
        turns = asyncio.Semaphore(self._abreast)

        async def entry(request: RecommendRequest) -> dict[str, object]:
            async with turns:
                deadline = common or Deadline.after(self._deadline_ms)
                try:
                    return {"answer": (await self._recommend(request, deadline)).body}
                except OverloadedError as error:
                    status = HTTPStatus.SERVICE_UNAVAILABLE
                    refused = Problem(title=status.phrase, status=status, detail=str(error))
                    return {"problem": refused.model_dump()}

        return list(await asyncio.gather(*map(entry, requests)))
