"""Versions in the store: the newest, those before, and the trail of all changes.

A version is written only in the place of the one it was made from (compare and set), in one script
with its entry in the audit trail and the announcement to all workers.
"""

import zlib
from typing import Any

import redis.asyncio
from pydantic import ValidationError

from abtest.split.experiment import ExperimentError
from serving.experiments.version import Change, Version
from serving.state import control

TOPIC = "experiments"
NEWEST_KEY = "experiments"
"""Hash in the store: `revision` and `version` of the newest."""
VERSIONS_KEY = "experiments:versions"
"""Hash in the store: revision -> version, packed."""
AUDIT_KEY = "experiments:audit"
"""List in the store, newest change first."""
MAX_CHANGES = 10_000
MAX_VERSIONS = 1000

_APPEND = """
local revision = redis.call('HGET', KEYS[1], 'revision') or '0'
if revision ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'version', ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('HDEL', KEYS[2], ARGV[2] - ARGV[6])
redis.call('LPUSH', KEYS[3], ARGV[4])
redis.call('LTRIM', KEYS[3], 0, ARGV[7] - 1)
redis.call('HINCRBY', KEYS[4], ARGV[5], 1)
return 1
"""


class OutdatedError(ValueError):
    """A change was made from a version that is not the newest any more."""

    def __init__(self, revision: int, newest: Version | None) -> None:
        """Say which version the change was made from and which is the newest."""
        self.newest = newest
        now = (
            "the store has none"
            if newest is None
            else f"revision {newest.revision} was made by {newest.by!r} at {newest.at:%F %T} UTC"
        )
        super().__init__(
            f"revision == {revision} is not the newest: {now}; read GET /v1/experiments, and send "
            "the change again with the revision it is made from"
        )

    @property
    def members(self) -> dict[str, object]:
        """What the problem body says beside its text."""
        if self.newest is None:
            return {}
        return self.newest.model_dump(mode="json", include={"revision", "at", "by", "note"})


class UnknownVersionError(ValueError):
    """There is no version of a revision, or not any more."""


class VersionStore:
    """Reads and writes versions."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """Read and write through a client."""
        self._client = client
        self._append = client.register_script(_APPEND)

    async def newest(self) -> Version | None:
        """The newest version; None if there never was one.

        Raises:
            redis.RedisError: the store is away.
            ExperimentError: it was written by a release that this one does not understand.
        """
        packed: Any = await self._client.hget(NEWEST_KEY, "version")
        return None if packed is None else _unpack(packed)

    async def append(
        self, version: Version, differences: tuple[str, ...], *, after: int | None = None
    ) -> None:
        """Make a version the newest, in every worker.

        Args:
            version: to be written.
            differences: from the version before, for the audit trail.
            after: revision of the newest version; by default the one before; 0 for none.

        Raises:
            OutdatedError: the newest is another one.
            redis.RedisError: the store is away; it is not known whether it was written.
        """
        before = version.revision - 1 if after is None else after
        written = await self._append(
            keys=[NEWEST_KEY, VERSIONS_KEY, AUDIT_KEY, control.KEY],
            args=[
                before,
                version.revision,
                zlib.compress(version.model_dump_json().encode()),
                Change.of(version, differences).model_dump_json(),
                TOPIC,
                MAX_VERSIONS,
                MAX_CHANGES,
            ],
        )
        if not written:
            raise OutdatedError(before, await self.newest())

    async def version(self, revision: int) -> Version:
        """The version of a revision.

        Raises:
            UnknownVersionError: there is none.
            redis.RedisError: the store is away.
        """
        packed: Any = await self._client.hget(VERSIONS_KEY, str(revision))
        if packed is None:
            newest = await self.newest()
            raise UnknownVersionError(
                f"there is no version of revision {revision}; the newest is "
                f"{newest.revision if newest else 0}, and the last {MAX_VERSIONS} are kept"
            )
        return _unpack(packed)

    async def audit(self, limit: int) -> tuple[Change, ...]:
        """The last changes, newest first.

        Raises:
            redis.RedisError: the store is away.
        """
        found: Any = await self._client.lrange(AUDIT_KEY, 0, limit - 1)
        return tuple(Change.model_validate_json(entry) for entry in found)


def _unpack(packed: bytes) -> Version:
    try:
        return Version.model_validate_json(zlib.decompress(packed))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ExperimentError(
            f"a version in the store cannot be read ({where}: {first['msg']}); it was written by "
            f"another release: change it there, or delete the key {NEWEST_KEY!r} in the store"
        ) from error
