"""Experiments change under a server, and what is wrong with a change is said."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.experiment import ExperimentError
from serving.experiments.file import ExperimentsFile, read_file
from serving.telemetry.metrics import Metrics
from tests.serving.bundles.answers import (
    BASELINE,
    EVERYBODY,
    UPSIDE_DOWN,
    answer,
    metric,
    served,
    wait_until,
)
from tests.serving.world import EXPERIMENTS, ServerProcess


class Adopted:
    def __init__(self) -> None:
        self.configs: list[ExperimentConfig] = []
        self.error: Exception | None = None

    async def adopt(
        self, config: ExperimentConfig, file_sha: str, still: Callable[[], bool]
    ) -> None:
        if self.error is not None:
            raise self.error
        assert len(file_sha) == 64
        assert still()
        self.configs.append(config)


def test_each_content_is_adopted_once_and_bad_ones_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, adopted, metrics = tmp_path / "experiments.toml", Adopted(), Metrics()
    file = ExperimentsFile(path, adopted.adopt, metrics)

    def faults_after_polls(content: bytes) -> str | None:
        path.write_bytes(content)
        asyncio.run(file.poll())
        asyncio.run(file.poll())
        return file.fault

    with caplog.at_level(logging.ERROR):
        assert faults_after_polls(EVERYBODY.encode()) is None
        assert "is not valid TOML" in str(faults_after_polls(b"version ="))
        assert "experiments.toml is not UTF-8 (" in str(faults_after_polls(b"\xff"))
        adopted.error = ExperimentError("no such bundle")
        assert faults_after_polls(EXPERIMENTS.encode()) == "no such bundle"
        adopted.error = None
        path.unlink()
        asyncio.run(file.poll())
        asyncio.run(file.poll())
        assert f"{path} cannot be read (No such file or directory); write it again" == file.fault
    assert len(adopted.configs) == 1
    assert faults_after_polls(EXPERIMENTS.encode()) is None
    assert len(adopted.configs) == 2
    bad = metrics.registry.get_sample_value("cascade_bad_files_total", {"file": "experiments"})
    assert bad == 4
    assert caplog.text.count("the experiments stay as they were: ") == 4


def test_a_failure_that_is_not_the_files_is_tried_again(tmp_path: Path) -> None:
    path, adopted = tmp_path / "experiments.toml", Adopted()
    path.write_text(EVERYBODY)
    file = ExperimentsFile(path, adopted.adopt, Metrics())
    adopted.error = MemoryError()
    asyncio.run(file.poll())
    with pytest.raises(MemoryError):
        asyncio.run(file.poll())
    adopted.error = None
    asyncio.run(file.poll())
    assert len(adopted.configs) == 1


def test_content_that_was_taken_up_before_is_no_edit(tmp_path: Path) -> None:
    path, adopted = tmp_path / "experiments.toml", Adopted()
    path.write_text(EVERYBODY)
    config, seen = read_file(path)
    file = ExperimentsFile(path, adopted.adopt, Metrics(), seen)
    asyncio.run(file.poll())
    assert adopted.configs == []
    path.write_text(EVERYBODY + "# as it was\n")
    asyncio.run(file.poll())
    asyncio.run(file.poll())
    assert adopted.configs == [config]


def test_half_a_file_is_not_taken_up(tmp_path: Path) -> None:
    """An editor is at work; what it has written is valid, and has no experiment yet."""
    path, adopted = tmp_path / "experiments.toml", Adopted()
    file = ExperimentsFile(path, adopted.adopt, Metrics())
    half = EXPERIMENTS.index("[[layers]]")
    for content in ("", EXPERIMENTS[:half], EXPERIMENTS, EXPERIMENTS):
        path.write_text(content)
        asyncio.run(file.poll())
    assert adopted.configs == [parse_config(EXPERIMENTS)]
    assert file.fault is None


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the server, whose file gives everybody one bundle."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        (server.data_dir / "experiments.toml").write_text(EVERYBODY)
        wait_until(lambda: len(client.get("/v1/bundles").json()["served"]) == 1)
        yield client


def fault(http: httpx.Client) -> str | None:
    found: str | None = http.get("/v1/experiments").json()["fault"]
    return found


def test_a_changed_file_loads_its_bundles_and_splits(
    http: httpx.Client, server: ServerProcess
) -> None:
    path = server.data_dir / "experiments.toml"
    path.write_text(EVERYBODY.replace("baseline", "upside-down"))
    wait_until(lambda: answer(http) == UPSIDE_DOWN)
    assert [s["name"] for s in http.get("/v1/bundles").json()["served"]] == ["upside-down"]
    path.write_text(EXPERIMENTS)
    wait_until(lambda: len(http.get("/v1/bundles").json()["served"]) == 2)
    users = [f"user{n}" for n in range(40)]
    bodies = [http.post("/v1/recommend", json={"user_id": user}).json() for user in users]
    assert {body["bundle"] for body in bodies} == {"baseline@1", "dftopk@1"}
    assert {body["experiments"][0]["variant"] for body in bodies} == {"baseline", "dftopk"}
    wait_until(lambda: http.get("/v1/bundles").json()["held"] == 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version = 1\n", "defaults: Field required"),
        (EVERYBODY.replace("baseline", "gone"), "name bundle 'gone', which is not in "),
        (EVERYBODY.replace("baseline", "damaged"), "does not match its checksum in manifest"),
        (EVERYBODY.replace("baseline", "scoreless"), "answers with rank_failed:rank; export"),
        (EVERYBODY + "speed = 3\n", "parameter speed is unknown; known are ["),
    ],
)
def test_a_bad_file_changes_nothing_and_is_told_of(
    http: httpx.Client, server: ServerProcess, content: str, message: str
) -> None:
    before = metric(server, 'cascade_bad_files_total{file="experiments"}')
    (server.data_dir / "experiments.toml").write_text(content)
    wait_until(lambda: message in str(fault(http)))
    assert answer(http) == BASELINE
    assert served(http)["name"] == "baseline"
    assert metric(server, 'cascade_bad_files_total{file="experiments"}') == before + 1
    (server.data_dir / "experiments.toml").write_text(EVERYBODY)
    wait_until(lambda: fault(http) is None)
