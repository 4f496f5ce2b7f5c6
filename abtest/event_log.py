"""Event log: the stream in the store that every event is written to, and the answers it is about.

Each write is one atomic round trip: an answer is found exactly when its ranking event is in the
stream, and an `event_id` is taken exactly when its event is. How durable an acknowledged write is,
is the store's setting (`appendfsync`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from redis.asyncio import Redis

from abtest.events import Assignment, FeedbackEvent, RankingEvent

STREAM = "events"
FIELD = "event"
"""Field of a stream entry that holds the event's JSON."""

_WEEK_S = 7 * 24 * 3600

# The id is taken after its event is appended: if the store refuses the append, a retry counts.
_APPEND_ONCE = """
local accepted = {}
for i = 2, #KEYS do
  accepted[i - 1] = 1 - redis.call('EXISTS', KEYS[i])
  if accepted[i - 1] == 1 then
    redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[i + 1])
    redis.call('SET', KEYS[i], '', 'EX', ARGV[2])
  end
end
return accepted
"""


class Answer(NamedTuple):
    """What feedback needs to know about the answer it names."""

    unit: str
    experiments: tuple[Assignment, ...]
    item_ids: tuple[str, ...]


_ANSWER = TypeAdapter(Answer)


class EventLog:
    """Appends events to the stream; errors of the client propagate."""

    def __init__(self, client: Redis, retention_s: int = _WEEK_S) -> None:
        """Log through a client.

        Args:
            client: of the store that holds the stream.
            retention_s: how long feedback about an answer is taken and duplicates are recognised.
        """
        self._client = client
        self._retention_s = retention_s
        self._append_once = client.register_script(_APPEND_ONCE)

    async def append_ranking(self, event: RankingEvent) -> None:
        """Append an answer's event and keep the answer for the feedback to come."""
        answer = Answer(event.unit, event.experiments, event.item_ids)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xadd(STREAM, {FIELD: event.model_dump_json()})
            pipe.set(_answer_key(event.request_id), _ANSWER.dump_json(answer), ex=self._retention_s)
            await pipe.execute()

    async def answers(self, request_ids: Sequence[str]) -> dict[str, Answer]:
        """The kept answers among `request_ids`; unknown and expired ones are left out."""
        names = list(dict.fromkeys(request_ids))
        if not names:
            return {}
        packed = await self._client.mget([_answer_key(name) for name in names])
        return {
            name: _ANSWER.validate_json(value)
            for name, value in zip(names, packed, strict=True)
            if value is not None
        }

    async def append_feedback(self, events: Sequence[FeedbackEvent]) -> list[bool]:
        """Append events whose `event_id` is new.

        Returns:
            For each event True if it was appended, False if its `event_id` was taken before,
            be it by an earlier event of the same call.
        """
        if not events:
            return []
        keys = [STREAM, *(f"event:{event.event_id}" for event in events)]
        args: list[Any] = [FIELD, self._retention_s, *(e.model_dump_json() for e in events)]
        return [accepted == 1 for accepted in await self._append_once(keys=keys, args=args)]


def _answer_key(request_id: str) -> str:
    return f"answer:{request_id}"
