"""Register: the version of the experiments in force in this worker, and every way to change it.

Changes come over HTTP, by an edit of experiments.toml, or from the store, where another worker or
the guardrails wrote them. The newest wins, whichever way it came. Nothing comes into force that
this worker cannot serve, and over HTTP nothing that the store did not take.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import redis

from abtest.split.config import ExperimentConfig
from abtest.split.difference import differences
from abtest.split.experiment import ExperimentError
from serving.experiments.store import OutdatedError, VersionStore
from serving.experiments.version import FILE, Standing, Version, remember
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

ATTEMPTS = 10
"""A change that does not come over HTTP is tried again when another came in between."""

logger = logging.getLogger(__name__)


class UnknownExperimentError(ValueError):
    """No experiment has a key; the message names those that there are."""


Commit = Callable[[], Awaitable[None]]
Make = Callable[[ExperimentConfig], ExperimentConfig]


class Served(Protocol):
    """What splits traffic by a configuration."""

    async def adopt(self, config: ExperimentConfig, commit: Commit) -> None:
        """Load what the configuration needs, commit, then split by it; or raise, as before."""

    async def try_out(self, config: ExperimentConfig) -> None:
        """Load what the configuration needs, and let go of it; or raise."""


class Changed(NamedTuple):
    """What a change did, or would do."""

    before: Version
    after: ExperimentConfig
    revision: int
    """Of the version in force afterwards; that of `before` where nothing changed."""
    differences: tuple[str, ...]


class Register:
    """Keeps one worker at the newest version."""

    def __init__(
        self,
        standing: Standing,
        *,
        store: VersionStore,
        served: Served,
        memory: Path,
        metrics: Metrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Begin with what is served already.

        Args:
            standing: what is served.
            store: that all workers follow.
            served: what splits traffic.
            memory: file in which what is in force is repeated.
            metrics: counts changes.
            clock: the time of a change, in UTC.
        """
        self.store = store
        self.fault: str | None = None
        """Why the newest version of the store is not in force here."""
        self.edit_fault: str | None = None
        """Why an edit of the file that was taken up while the store was away was given up again."""
        self._standing = standing
        self._served = served
        self._memory = memory
        self._metrics = metrics
        self._clock = clock
        self._turn = asyncio.Lock()
        self._stand(standing)

    @property
    def version(self) -> Version:
        """What is in force here."""
        return self._standing.version

    @property
    def pending(self) -> bool:
        """Whether it is an edit of the file that the store does not have yet."""
        return self._standing.pending

    async def change(
        self, make: Make, *, revision: int, by: str, note: str, dry_run: bool = False
    ) -> Changed:
        """Put another configuration in the place of the newest one, in every worker.

        Args:
            make: from the newest configuration to the one after it.
            revision: of the version that whoever asks has seen.
            by: who asks.
            note: why.
            dry_run: only tell what would change, with the same checks.

        Raises:
            OutdatedError: there is a newer version than that.
            ExperimentError: the change is wrong, or not allowed.
            BundleError: a bundle it needs cannot be served here.
            redis.RedisError: the store is away; nothing changed.
        """
        async with self._turn:
            try:
                return await self._change(make, revision, by, note, dry_run)
            except OutdatedError:
                self._count("http", "outdated")
                raise
            except (ExperimentError, BundleError):
                self._count("http", "refused")
                raise

    async def follow(self) -> None:
        """Bring this worker to the newest version, and the store what only this worker knows.

        Raises:
            ExperimentError, BundleError: it cannot be served here; what was in force stays.
            redis.RedisError: the store is away.
        """
        async with self._turn:
            newest = await self._settled()
            if newest == self.version and not self.pending:
                self.fault = None
                return
            try:
                await self._served.adopt(newest.config, _nothing)
            except (ExperimentError, BundleError) as error:
                self.fault = f"revision {newest.revision} of {newest.by!r} is not in force: {error}"
                self._count("store", "refused")
                raise
            if newest.config_sha != self.version.config_sha:
                self._count("store", "adopted")
            self._stand(Standing(version=newest, seen=self._standing.seen))

    async def submit(self) -> None:
        """Bring the store an edit of the file that was taken up while it was away.

        Raises:
            As `follow`.
        """
        if self.pending:
            await self.follow()

    async def take_file(
        self, config: ExperimentConfig, file_sha: str, still: Callable[[], bool]
    ) -> None:
        """Take up an edit of experiments.toml; where the store is away, in this worker first.

        Args:
            config: what the file says.
            file_sha: SHA-256 of its content.
            still: whether that is its content now.

        Raises:
            ExperimentError: the change is not allowed.
            BundleError: a bundle it needs cannot be served.
        """
        async with self._turn:
            for _ in range(ATTEMPTS):
                try:
                    await self._take_file(config, file_sha, still)
                except OutdatedError:
                    continue  # another worker took the file up, or another change came first
                except redis.RedisError as error:
                    logger.warning("the store is away (%s); it hears of the file later", error)
                    await self._take_alone(config, file_sha)
                self.edit_fault = None
                return
        raise ExperimentError("the experiments change all the time; save the file again")

    async def _change(
        self, make: Make, revision: int, by: str, note: str, dry_run: bool
    ) -> Changed:
        newest = await self._settled()
        if newest.revision != revision:
            raise OutdatedError(revision, newest)
        config = make(newest.config)
        newest.check(config)
        found = differences(newest.config, config)
        if dry_run:
            await self._served.try_out(config)
        elif config != newest.config:
            version = newest.next(config, at=self._clock(), by=by, note=note)
            await self._served.adopt(config, partial(self.store.append, version, found))
            self._count("http", "adopted")
            self._stand(Standing(version=version, seen=self._standing.seen))
            return Changed(newest, config, version.revision, found)
        return Changed(newest, config, newest.revision, found)

    async def _take_file(
        self, config: ExperimentConfig, file_sha: str, still: Callable[[], bool]
    ) -> None:
        newest = await self._settled()
        if newest.file_sha == file_sha:
            await self._served.adopt(newest.config, _nothing)
            self._stand(Standing(version=newest, seen=file_sha))
            return
        if not still():
            return
        newest.check(config)
        version = newest.next(config, at=self._clock(), by=FILE, file_sha=file_sha)
        found = differences(newest.config, config)
        await self._served.adopt(config, partial(self.store.append, version, found))
        self._count("file", "adopted")
        self._stand(Standing(version=version, seen=file_sha))

    async def _take_alone(self, config: ExperimentConfig, file_sha: str) -> None:
        self.version.check(config)
        version = self.version.next(config, at=self._clock(), by=FILE, file_sha=file_sha)
        await self._served.adopt(config, _nothing)
        self._count("file", "adopted")
        self._stand(Standing(version=version, seen=file_sha, pending=True))

    async def _settled(self) -> Version:
        """The newest version, once the store has what only this worker knows."""
        for _ in range(ATTEMPTS):
            newest = await self.store.newest()
            ours = self._missing_in_store(newest)
            if ours is None:
                assert newest is not None
                return newest
            found = () if newest is None else differences(newest.config, ours.config)
            try:
                await self.store.append(ours, found, after=newest.revision if newest else 0)
            except OutdatedError:
                continue
            self._stand(Standing(version=ours, seen=self._standing.seen))
            return ours
        raise redis.ConnectionError("the store takes no version, others come first all the time")

    def _missing_in_store(self, newest: Version | None) -> Version | None:
        ours = self.version
        if newest is None:
            return ours
        if not self.pending:
            # A store that lost its last moments forgot the version made from what it has.
            lost = ours.before_sha == newest.config_sha and ours.revision == newest.revision + 1
            return ours if lost else None
        if newest.file_sha == ours.file_sha:
            return None  # another worker brought it
        try:
            newest.check(ours.config)
        except ExperimentError as error:
            self.edit_fault = f"the store has a newer version than the edited file: {error}"
            self._count("file", "refused")
            logger.error("%s", self.edit_fault)  # noqa: TRY400  # the trace says nothing more
            return None
        return newest.next(ours.config, at=ours.at, by=FILE, file_sha=ours.file_sha)

    def _stand(self, standing: Standing) -> None:
        self._standing = standing
        self._metrics.experiments_revision.set(standing.version.revision)
        self.fault = None
        try:
            remember(self._memory, standing)
        except OSError as error:  # the store has it; the file is for a start without the store
            logger.warning("%s cannot be written (%s)", self._memory, error)

    def _count(self, way: str, outcome: str) -> None:
        self._metrics.experiment_changes.labels(way, outcome).inc()


async def _nothing() -> None:
    """Commit where there is nothing to write."""
