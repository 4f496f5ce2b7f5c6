"""Registers of several workers on a real Valkey, which at times is away or forgets."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
from serving.experiments.register import Register
from serving.experiments.store import AUDIT_KEY, NEWEST_KEY, OutdatedError, VersionStore
from serving.experiments.version import Standing, Version, remembered
from serving.state.store import Store
from serving.telemetry.metrics import Metrics
from tests.serving.experiments.configs import EVERYBODY, RAMPED, config
from tests.serving.experiments.test_store import NOW
from training.bundle import BundleError

A, B = "a" * 64, "b" * 64
DAMAGED = "damaged"


class Lineup:
    """What splits traffic in a worker; it cannot load the bundle `damaged`."""

    def __init__(self) -> None:
        self.config: ExperimentConfig = config(EVERYBODY)

    async def adopt(self, found: ExperimentConfig, commit: Callable[[], Awaitable[None]]) -> None:
        await self.try_out(found)
        await commit()
        self.config = found

    async def try_out(self, found: ExperimentConfig) -> None:
        if found.defaults["bundle"] == DAMAGED:
            raise BundleError("it is damaged")


class Worker:
    """A register with its lineup and memory."""

    def __init__(self, client: redis.asyncio.Redis, memory: Path, standing: Standing) -> None:
        self.lineup = Lineup()
        self.lineup.config = standing.version.config
        self.memory = memory
        self.metrics = Metrics()
        self.register = Register(
            standing,
            store=VersionStore(client),
            served=self.lineup,
            memory=memory,
            metrics=self.metrics,
            clock=lambda: NOW,
        )

    async def put(self, found: ExperimentConfig, revision: int, **also: Any) -> int:  # noqa: ANN401
        done = await self.register.change(
            lambda _: found, revision=revision, by="ann", note="", **also
        )
        return done.revision

    async def edit(self, found: ExperimentConfig, sha: str, *, still: bool = True) -> None:
        await self.register.take_file(found, sha, lambda: still)

    def changes(self, way: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "cascade_experiment_changes_total", {"way": way, "outcome": outcome}
        )

    @property
    def known(self) -> tuple[int, ExperimentConfig, bool]:
        assert self.register.version.config == self.lineup.config
        standing = remembered(self.memory)
        assert standing is not None
        assert standing.version == self.register.version
        return self.register.version.revision, self.lineup.config, self.register.pending


def standing(text: str = EVERYBODY, sha: str = A) -> Standing:
    """What a server begins with that finds a file and nothing else."""
    return Standing(version=Version.first(config(text), sha, NOW), seen=sha, pending=True)


Use = Callable[[redis.asyncio.Redis, tuple[Worker, Worker]], Awaitable[None]]


def with_workers(store: Store, folder: Path, use: Use) -> None:
    async def run() -> None:
        async with store.client() as client, store.client(0.3) as impatient:
            await client.flushall()
            workers = [Worker(impatient, folder / f"{n}.json", standing()) for n in range(2)]
            for worker in workers:
                await worker.register.follow()
            assert [w.known for w in workers] == [(1, config(EVERYBODY), False)] * 2
            await use(client, (workers[0], workers[1]))

    asyncio.run(run())


@asynccontextmanager
async def away(client: redis.asyncio.Redis) -> AsyncIterator[None]:
    """The store hangs."""
    info: Any = await client.info("server")
    os.kill(info["process_id"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(info["process_id"], signal.SIGCONT)


async def trail(client: redis.asyncio.Redis) -> list[tuple[int, str]]:
    changes = await VersionStore(client).audit(100)
    return [(change.revision, change.by) for change in reversed(changes)]


def test_a_change_reaches_every_worker_and_an_outdated_one_none(
    store: Store, tmp_path: Path
) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, two = workers
        assert await one.put(config(), 1) == 2
        assert one.known == (2, config(), False)
        with pytest.raises(OutdatedError, match="revision 2 was made by 'ann'"):
            await two.put(config(EVERYBODY), 1)
        assert two.known == (1, config(EVERYBODY), False)
        await two.register.follow()
        assert two.known == one.known
        # One that changes nothing makes no version, and a dry run none either.
        assert await two.put(config(), 2) == 2
        assert await two.put(config(EVERYBODY), 2, dry_run=True) == 2
        assert two.known == one.known
        assert await trail(client) == [(1, "file"), (2, "ann")]
        assert one.changes("http", "adopted") == 1
        assert two.changes("http", "outdated") == 1
        assert two.changes("store", "adopted") == 1

    with_workers(store, tmp_path, use)


def test_concurrent_changes_of_one_version_exactly_one_wins(store: Store, tmp_path: Path) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        puts = [workers[n % 2].put(config(slots=((0, 100 * (n + 1)),)), 1) for n in range(10)]
        done = await asyncio.gather(*puts, return_exceptions=True)
        assert done.count(2) == 1
        assert sum(isinstance(what, OutdatedError) for what in done) == 9
        for worker in workers:
            await worker.register.follow()
        assert workers[0].known == workers[1].known
        [wanted] = [n for n, what in enumerate(done) if what == 2]
        assert workers[0].known[1] == config(slots=((0, 100 * (wanted + 1)),))
        assert await trail(client) == [(1, "file"), (2, "ann")]

    with_workers(store, tmp_path, use)


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        (config(EVERYBODY.replace("baseline", DAMAGED)), BundleError, "it is damaged"),
        (config(slots=((0, 10),)), ExperimentError, "slots shrank or moved at revision 1, which"),
    ],
)
def test_what_cannot_be_in_force_is_not_written(
    store: Store, tmp_path: Path, found: ExperimentConfig, error: type[Exception], message: str
) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, _ = workers
        await one.put(config(), 1)
        for dry_run in (False, True):
            with pytest.raises(error, match=message):
                await one.put(found, 2, dry_run=dry_run)
        with pytest.raises(error, match=message):
            await one.edit(found, B)
        assert one.known == (2, config(), False)
        assert await trail(client) == [(1, "file"), (2, "ann")]
        assert one.changes("http", "refused") == 2

    with_workers(store, tmp_path, use)


def test_what_was_removed_comes_back_under_a_new_revision(store: Store, tmp_path: Path) -> None:
    async def use(_: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, two = workers
        await one.put(config(), 1)
        await one.put(config(EVERYBODY), 2)
        await two.register.follow()
        for dry_run in (False, True):
            with pytest.raises(ExperimentError, match="was in force up to revision 1 and was remo"):
                await two.put(config(), 3, dry_run=dry_run)
        with pytest.raises(ExperimentError, match="was in force up to revision 1 and was removed"):
            await two.edit(config(), B)
        assert await two.put(config(revision=2), 3) == 4
        assert two.register.version.retired == {}

    with_workers(store, tmp_path, use)


def test_a_version_that_a_worker_cannot_serve_is_told_of_and_tried_again(
    store: Store, tmp_path: Path
) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, two = workers
        bad = one.register.version.next(
            config(EVERYBODY.replace("baseline", DAMAGED)), at=NOW, by="ann"
        )
        await VersionStore(client).append(bad, ())
        for _ in range(2):
            with pytest.raises(BundleError):
                await one.register.follow()
        assert one.register.fault == "revision 2 of 'ann' is not in force: it is damaged"
        assert one.known == (1, config(EVERYBODY), False)
        assert await one.put(config(), 2) == 3
        assert one.register.fault is None
        await two.register.follow()
        assert two.known == (3, config(), False)

    with_workers(store, tmp_path, use)


def test_an_edit_of_the_file_is_one_version_however_many_workers_see_it(
    store: Store, tmp_path: Path
) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        await asyncio.gather(*(worker.edit(config(), B) for worker in workers))
        for worker in workers:
            assert worker.known == (2, config(), False)
        # What comes after the edit stays, also when a worker sees the edit late.
        await workers[0].put(config(EVERYBODY), 2)
        await workers[1].edit(config(), B)
        assert workers[1].known == (3, config(EVERYBODY), False)
        # And one that was overwritten before it was taken up is none.
        await workers[1].edit(config(), "c" * 64, still=False)
        assert await trail(client) == [(1, "file"), (2, "file"), (3, "ann")]

    with_workers(store, tmp_path, use)


def test_without_the_store_an_edit_holds_here_and_is_submitted_later(
    store: Store, tmp_path: Path
) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, two = workers
        async with away(client):
            with pytest.raises(redis.RedisError):
                await one.put(config(), 1)
            assert one.known == (1, config(EVERYBODY), False)
            await one.edit(config(), B)
            assert one.known == (2, config(), True)
            with pytest.raises(redis.RedisError):
                await one.register.submit()
        assert await trail(client) == [(1, "file")]
        again = Worker(client, one.memory, remembered(one.memory) or standing())
        await again.register.submit()
        assert again.known == (2, config(), False)
        await two.edit(config(), B)  # which it sees only now
        await one.register.submit()
        assert one.known == two.known == again.known
        assert await trail(client) == [(1, "file"), (2, "file")]

    with_workers(store, tmp_path, use)


def test_an_edit_that_does_not_go_with_what_came_meanwhile(store: Store, tmp_path: Path) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, two = workers
        async with away(client):
            await one.edit(config(slots=((0, 10),)), B)
        await two.put(config(), 1)
        await one.register.submit()
        assert one.known == (2, config(), False)
        assert str(one.register.edit_fault).startswith(
            "the store has a newer version than the edited file: experiment ranker: slots shrank"
        )
        assert one.changes("file", "refused") == 1
        await one.edit(config(slots=((0, 2000),)), "c" * 64)
        assert one.register.edit_fault is None
        assert one.known[0] == 3

    with_workers(store, tmp_path, use)


def test_a_store_that_forgot_is_told(store: Store, tmp_path: Path) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, two = workers
        before: Any = await client.hgetall(NEWEST_KEY)
        await one.put(config(), 1)
        await client.hset(NEWEST_KEY, mapping=before)  # its last second is gone
        await client.lpop(AUDIT_KEY)
        await one.register.follow()
        await client.flushall()  # everything is gone
        await one.register.follow()
        await two.register.follow()
        assert one.known == two.known == (2, config(), False)
        assert await trail(client) == [(2, "ann")]

    with_workers(store, tmp_path, use)


def test_another_store_is_not_overwritten(store: Store, tmp_path: Path) -> None:
    async def use(client: redis.asyncio.Redis, workers: tuple[Worker, Worker]) -> None:
        one, _ = workers
        await one.put(config(), 1)
        await one.put(config(slots=((0, 2000),)), 2)
        await client.flushall()
        stranger = Version.first(config(RAMPED, key="other"), B, NOW)
        await VersionStore(client).append(stranger, ())
        await one.register.follow()
        assert one.known == (1, stranger.config, False)

    with_workers(store, tmp_path, use)


@pytest.mark.parametrize("content", [b"{", b'{"version": 1}', b"[]"])
def test_a_memory_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "experiments.json"
    assert remembered(path) is None
    path.write_bytes(content)
    with pytest.raises(
        ExperimentError, match=r"experiments.json cannot be read \(.*\); remove it, then the store"
    ):
        remembered(path)
