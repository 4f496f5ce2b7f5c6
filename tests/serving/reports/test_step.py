"""The background step: reports of what is due, and the end of what does harm."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from abtest.report.index import Index, read_index, read_report, report_path, write_index
from abtest.report.making import refresh
from abtest.report.model import Report
from abtest.split.change import kill, pause
from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.experiment import State
from serving.experiments.store import OutdatedError, VersionStore
from serving.experiments.version import Change, Version
from serving.reports.step import FAULTS, MADE, STOPPED, make_reports, open_archive
from serving.reports.stopping import broken, stop_broken
from serving.settings import Settings
from serving.state.store import Store
from tests.serving.reports.traffic import slow_variant
from tests.serving.world import EXPERIMENTS

KEY = "dftopk-vs-baseline"
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
RAIL = 'guardrails = [{ metric = "latency_mean", tolerance = 0.1 }]'
KEPT = 'guardrails = [{ metric = "latency_mean", tolerance = 0.1, auto_stop = false }]'


def config(rail: str = RAIL, state: str = "running") -> ExperimentConfig:
    text = EXPERIMENTS.replace('control = "baseline"', f'control = "baseline"\n{rail}')
    return parse_config(text.replace('state = "running"', f'state = "{state}"'))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Store]]:
    """A data directory with a store and archived events in which `dftopk` is slow."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    with Store(settings) as store:
        with store.sync_client() as client:
            slow_variant(client, settings.events_dir)
        yield settings, store


def in_force(store: Store, given: ExperimentConfig) -> None:
    async def write() -> None:
        async with store.client() as client:
            await client.flushall()
            await VersionStore(client).append(Version.first(given, "0" * 64, NOW), (), after=0)

    asyncio.run(write())


def audit(store: Store) -> tuple[Change, ...]:
    async def read() -> tuple[Change, ...]:
        async with store.client() as client:
            return await VersionStore(client).audit(10)

    return asyncio.run(read())


def forget_reports(settings: Settings) -> None:
    for path in settings.reports_dir.glob("*"):
        path.unlink()
    for path in settings.reports_dir.glob(".*"):
        path.unlink()


def test_a_broken_guardrail_ends_the_experiment_once(served: tuple[Settings, Store]) -> None:
    settings, store = served
    forget_reports(settings)
    in_force(store, config())
    assert make_reports(settings) == {MADE: 1, FAULTS: 0, STOPPED: 1}
    report = read_report(settings.reports_dir, KEY)
    assert report is not None
    assert report.decision.call == "stop"
    newest = audit(store)[0]
    assert (newest.revision, newest.by) == (2, "guardrail")
    assert newest.note.startswith(
        f"{KEY}: Guardrail mean time of an answer is broken by dftopk: always-valid interval of "
        "the harm +"
    )
    assert any("killed" in line for line in newest.differences)
    assert make_reports(settings)[STOPPED] == 0
    assert len(audit(store)) == 2


@pytest.mark.parametrize("given", [config(KEPT), config(state="aa"), config(state="paused")])
def test_nothing_else_is_ended(served: tuple[Settings, Store], given: ExperimentConfig) -> None:
    settings, store = served
    forget_reports(settings)
    in_force(store, given)
    assert make_reports(settings) == {MADE: 1, FAULTS: 0, STOPPED: 0}
    assert len(audit(store)) == 1


def test_what_was_not_stopped_is_stopped_at_the_next_turn(
    served: tuple[Settings, Store],
) -> None:
    """The report was written, then the process ended: nothing is new, and still it stops."""
    settings, store = served
    forget_reports(settings)
    in_force(store, config())
    refresh(open_archive(settings), config(), settings.reports_dir, as_of=datetime.now(UTC))
    assert make_reports(settings) == {MADE: 0, FAULTS: 0, STOPPED: 1}


def test_a_change_in_between_is_not_overwritten(served: tuple[Settings, Store]) -> None:
    settings, store = served
    forget_reports(settings)
    archive = open_archive(settings)
    (report,) = refresh(archive, config(), settings.reports_dir, as_of=NOW).made

    class Busy(VersionStore):
        """Somebody else changes the experiments first, so many times."""

        left = 1

        async def append(
            self, version: Version, differences: tuple[str, ...], *, after: int | None = None
        ) -> None:
            if self.left:
                self.left -= 1
                newest = await self.newest()
                assert newest is not None
                turned = newest.next(newest.config, at=NOW, by="ann")
                await super().append(turned, ())
            await super().append(version, differences, after=after)

    async def run(left: int) -> tuple[str, ...]:
        async with store.client() as client:
            versions = Busy(client)
            versions.left = left
            return await stop_broken(versions, [report], lambda: NOW)

    in_force(store, config())
    assert asyncio.run(run(1)) == (KEY,)
    assert [change.by for change in audit(store)] == ["guardrail", "ann", "file"]
    in_force(store, config())
    with pytest.raises(OutdatedError):
        asyncio.run(run(99))
    in_force(store, kill(config(), KEY))
    assert asyncio.run(run(0)) == ()


def test_only_a_report_of_the_same_revision_ends_anything(
    served: tuple[Settings, Store],
) -> None:
    settings, _ = served
    forget_reports(settings)
    (report,) = refresh(open_archive(settings), config(), settings.reports_dir, as_of=NOW).made
    experiment = config().experiment(KEY)
    assert broken(report, experiment)
    newer = experiment.model_copy(update={"revision": 2})
    assert broken(report, newer) == ()
    assert broken(report, pause(config(), KEY).experiment(KEY)) == ()


def test_reports_are_made_when_they_are_due(served: tuple[Settings, Store]) -> None:
    settings, _ = served
    forget_reports(settings)
    archive, folder = open_archive(settings), settings.reports_dir

    def made(given: ExperimentConfig, as_of: datetime) -> int:
        return len(refresh(archive, given, folder, as_of=as_of).made)

    assert made(config(), NOW) == 1
    assert made(config(), NOW + timedelta(minutes=1)) == 0
    file = next(iter(settings.events_dir.glob("day=*/*.parquet")))
    file.touch()
    assert made(config(), NOW) == 1  # the archive moved
    assert made(config(KEPT), NOW) == 1  # the declaration did
    ended = kill(config(KEPT), KEY)
    assert made(ended, NOW) == 1
    file.touch()
    assert made(ended, NOW) == 0  # nobody is split any more
    assert made(ended, NOW + timedelta(days=1)) == 1  # late feedback counts the day after
    assert made(config(KEPT, "draft"), NOW) == 0


def test_an_index_or_report_of_another_release_is_made_anew(
    served: tuple[Settings, Store],
) -> None:
    settings, _ = served
    forget_reports(settings)
    archive, folder = open_archive(settings), settings.reports_dir
    refresh(archive, config(), folder, as_of=NOW)
    report_path(folder, KEY).write_text("{}")
    assert read_report(folder, KEY) is None
    (folder / ".index").write_text("{")
    assert read_index(folder) == Index()
    assert len(refresh(archive, config(), folder, as_of=NOW).made) == 1
    assert isinstance(read_report(folder, KEY), Report)
    assert list(folder.glob(".*.draft")) == []


def test_a_report_that_cannot_be_made_is_told_and_keeps_the_old(
    served: tuple[Settings, Store],
) -> None:
    settings, _ = served
    forget_reports(settings)
    archive, folder = open_archive(settings), settings.reports_dir
    refresh(archive, config(), folder, as_of=NOW)
    newer = config().model_dump_json().replace('"revision":1', '"revision":2')
    done = refresh(archive, ExperimentConfig.model_validate_json(newer), folder, as_of=NOW)
    assert done.made == ()
    assert f"holds no answer of {KEY} revision 2" in done.faults[KEY]
    entry = read_index(folder).entries[KEY]
    assert entry.summary is not None
    assert entry.summary.revision == 1
    write_index(folder, Index())
    assert read_index(folder).entries == {}


def test_without_the_store_nobody_knows_what_is_in_force(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(redis.RedisError):
        make_reports(settings)


def test_state_is_told(served: tuple[Settings, Store]) -> None:
    settings, _ = served
    forget_reports(settings)
    given = config(state="aa")
    (report,) = refresh(open_archive(settings), given, settings.reports_dir, as_of=NOW).made
    assert report.state is State.AA
