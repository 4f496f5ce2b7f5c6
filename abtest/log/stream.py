"""Stream: the log's side of the store. Every write can be repeated without harm.

The stream holds every event until it is archived. A key of its own says that an event is in it, and
is written in the same atomic step; the key of an answer holds what feedback needs to know about it.
Reports whose answer is not known yet wait in a hash beside the stream.
"""

from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from abtest.log.attribution import ANSWER, Answer
from abtest.log.record import Record, answer_key

STREAM = "events"
FIELD = "event"
"""Field of a stream entry that holds the event's JSON."""
REPORTS = "events:reports"
"""Hash of the reports that wait for their answers, by event id."""
_MARK = "events:mark"

SYNC_TIMEOUT_MS = 2000
PATIENT_TIMEOUT_S = 5.0
"""Time that clients for `patient` calls must give a reply, `SYNC_TIMEOUT_MS` included."""
_MAX_REPORTS = 1000

# The key is taken after its event is appended: if the store refuses the append, a retry counts.
_APPEND_ONCE = """
local taken = {}
for i = 3, #KEYS do
  local n, at = i - 2, 3 * i - 6
  taken[n] = 1 - redis.call('EXISTS', KEYS[i])
  if taken[n] == 1 then
    if ARGV[at] == '1' then
      taken[n] = redis.call('HSETNX', KEYS[2], ARGV[at + 1], ARGV[at + 2])
    else
      redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[at + 2])
      redis.call('SET', KEYS[i], ARGV[at + 1], 'EX', ARGV[2])
    end
  end
end
return taken
"""


class Identity(NamedTuple):
    """Which run of which store this is, and whether it tells when its disk has what it took."""

    run_id: str
    syncs: bool


class Settled(Enum):
    """What became of earlier writes."""

    SAFE = "safe"
    NOT_YET = "not yet"
    UNKNOWN = "the store was restarted or replaced"


class Commands(Protocol):
    """A client as far as requests need one."""

    def execute_command(self, *words: Any) -> Awaitable[Any]:  # noqa: ANN401
        """The store's reply to a command."""
        ...


class EventStream:
    """Writes and reads through two clients; their errors propagate."""

    def __init__(self, client: Commands, patient: Redis, retention_s: int) -> None:
        """Work on a store.

        Args:
            client: for calls that a request waits for, with a short timeout.
            patient: for all others, with a timeout of at least `PATIENT_TIMEOUT_S`.
            retention_s: how long answers are kept and repeated events are recognised.
        """
        self._client = client
        self._patient = patient
        self._retention_s = retention_s

    async def append(self, records: Sequence[Record], *, patient: bool = False) -> list[bool]:
        """Take in records; for each whether it was new, be it to the same call."""
        keys: list[Any] = [STREAM, REPORTS]
        args: list[Any] = [FIELD, self._retention_s]
        for kind, key, value, content in records:
            keys.append(key)
            args += (int(kind), value, content)
        client: Commands = self._patient if patient else self._client
        script = ("EVAL", _APPEND_ONCE, len(keys))
        return [n == 1 for n in await client.execute_command(*script, *keys, *args)]

    async def answers(
        self, request_ids: Sequence[str], *, patient: bool = False
    ) -> list[Answer | None]:
        """The kept answer of each request id, None where there is none."""
        client: Commands = self._patient if patient else self._client
        kept = await client.execute_command("MGET", *(answer_key(name) for name in request_ids))
        return [None if value is None else ANSWER.validate_json(value) for value in kept]

    async def reports(self) -> dict[bytes, bytes]:
        """Some of the reports that wait, as JSON by event id; all if there are few."""
        found: Any
        _, found = await self._patient.hscan(REPORTS, count=_MAX_REPORTS)
        return dict(found)

    async def drop_report(self, event_id: bytes) -> bool:
        """Let a report wait no longer; whether it still did."""
        dropped: Any = await self._patient.hdel(REPORTS, event_id.decode())
        return bool(dropped)

    async def identity(self) -> Identity:
        """Which store this is now."""
        info: Any = await self._patient.info("server")
        try:
            found: Any = await self._patient.config_get("append*")
        except ResponseError:  # hosted stores hide their settings; WAITAOF will tell
            found = {}
        syncs = found.get("appendonly") != "no" and found.get("appendfsync") != "no"
        return Identity(str(info["run_id"]), syncs)

    async def settled(self, known: Identity) -> Settled:
        """Whether what this store took before is on its disk, as far as it can tell."""
        pipeline = self._patient.pipeline(transaction=False)
        pipeline.info("server")
        # WAITAOF waits for what its own connection wrote, and with it for all that came before.
        pipeline.set(_MARK, "")
        if known.syncs:
            pipeline.waitaof(1, 0, SYNC_TIMEOUT_MS)
        info, marked, *synced = await pipeline.execute(raise_on_error=False)
        for reply in (info, marked):
            if isinstance(reply, Exception):
                raise reply
        if str(info["run_id"]) != known.run_id:
            return Settled.UNKNOWN
        # A store that does not know WAITAOF cannot tell: what it took is as safe as it gets.
        told = bool(synced) and not isinstance(synced[0], Exception)
        return Settled.NOT_YET if told and synced[0][0] < 1 else Settled.SAFE
