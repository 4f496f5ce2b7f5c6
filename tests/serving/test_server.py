"""The process: refusals to start, signals, metrics, and a store that dies under it."""

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import torch

from abtest.split.experiment import ExperimentError
from serving.server import ServerError, run
from serving.settings import Settings
from tests.serving.world import ServerProcess, write_world
from training.bundle import BundleError

Damage = Callable[[Path], object]


@pytest.fixture
def data_dir(world: Path, tmp_path: Path) -> Path:
    shutil.copytree(world, tmp_path / "copy")
    return tmp_path / "copy"


def test_port_in_use(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=rf"cannot listen on 127.0.0.1:{port} \(Address alre"):
            run(Settings(data_dir=data_dir, port=port))
    assert not (data_dir / "valkey").exists()


def test_host_that_is_not_ours(data_dir: Path) -> None:
    with pytest.raises(ServerError, match=r"cannot listen on no\.such\.host\.invalid:0 \("):
        run(Settings(data_dir=data_dir, host="no.such.host.invalid", port=0))


def write_config(data_dir: Path, old: str, new: str) -> None:
    path = data_dir / "experiments.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            lambda d: (d / "experiments.toml").unlink(),
            ExperimentError,
            "experiments.toml does not exist; write one",
        ),
        (
            lambda d: write_config(d, "weight = 0.5, params = { bundle = \"dftopk\" }",
                                   "weight = 0.6, params = { bundle = \"dftopk\" }"),
            ExperimentError,
            r"weights 0.5 \+ 0.6 = 1.1 must sum to 1",
        ),
        (
            lambda d: write_config(d, "bundle = \"dftopk\"", "bundle = \"dftop\""),
            ExperimentError,
            r"name bundle 'dftop', which is not in .*; there are \['baseline', 'dftopk'\]",
        ),
        (
            lambda d: (d / "experiments.toml").write_text("version = 1\n[defaults]\nk = 1\n"),
            ExperimentError,
            r"\[defaults\] must set 'bundle' to the name of a bundle; it sets \['k'\]",
        ),
        (
            lambda d: (d / "bundles" / "dftopk" / "rank.pt").unlink(),
            BundleError,
            "rank.pt is missing; export the run again",
        ),
        (
            lambda d: truncate(d / "bundles" / "dftopk" / "index.faiss"),
            BundleError,
            "index.faiss .* does not match its checksum",
        ),
    ],
)  # fmt: skip
def test_refusals_to_start(
    data_dir: Path, damage: Damage, error: type[Exception], message: str
) -> None:
    damage(data_dir)
    with pytest.raises(error, match=message):
        run(Settings(data_dir=data_dir, port=0, device="cpu"))
    assert not (data_dir / "valkey").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpu_that_is_not_there(data_dir: Path) -> None:
    with pytest.raises(ValueError, match="device 'cuda' needs a GPU that torch can use; choose"):
        run(Settings(data_dir=data_dir, port=0, device="cuda"))


def test_valkey_that_cannot_start_refuses_the_start(data_dir: Path) -> None:
    (data_dir / "valkey").write_text("in the way")
    with pytest.raises(RuntimeError, match=r"cannot be used .*; choose one that can be written"):
        run(Settings(data_dir=data_dir, port=0, device="cpu"))


def test_metrics_count_requests_steps_and_feedback(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/recommend", json={"user_id": "m", "num": 1, "context": {"mode": "nan"}}
    ).json()
    about = {"request_id": answer["request_id"], "item_id": answer["items"][0]["item_id"]}
    click = {"event_id": "m1", "type": "click", "event_ts": "2026-01-01T00:00:00Z", **about}
    http.post("/v1/events", json={"events": [click, click, {}]})
    http.get("/nowhere")
    text = http.get("/metrics").text
    bundle = answer["bundle"]
    arm = "dftopk-vs-baseline/" + answer["experiments"][0]["variant"]
    for line in (
        'cascade_http_requests_total{method="POST",route="/v1/recommend",status="200"} 1.0',
        'cascade_http_requests_total{method="any",route="unmatched",status="404"} 1.0',
        f'cascade_degraded_answers_total{{bundle="{bundle}",reason="rank_failed:rank"}} 1.0',
        f'cascade_step_seconds_count{{bundle="{bundle}",step="retrieval",variants="{arm}"}} 1.0',
        f'cascade_answers_total{{bundle="{bundle}",variant="{arm}"}} 1.0',
        'cascade_feedback_events_total{outcome="accepted"} 1.0',
        'cascade_feedback_events_total{outcome="duplicate"} 1.0',
        'cascade_feedback_events_total{outcome="rejected"} 1.0',
    ):
        assert line in text


def test_health_readiness_docs_and_experiments(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready", "degraded": []}
    assert http.get("/docs").status_code == 200
    paths = http.get("/openapi.json").json()["paths"]
    assert {"/v1/recommend", "/v1/events", "/v1/users/{user_id}"} <= set(paths)
    running = http.get("/v1/experiments").json()
    assert (
        running["config"]["domains"][0]["layers"][0]["experiments"][0]["key"]
        == "dftopk-vs-baseline"
    )
    assert running["bundles"]["dftopk"]["stages"] == ["retrieval", "rank"]


def test_killed_store_is_started_again(http: httpx.Client, server: ServerProcess) -> None:
    direct = redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock"))
    info: Any = direct.info("server")
    os.kill(info["process_id"], signal.SIGKILL)
    wait_for_metric(server, r"cascade_store_restarts_total 1\.0")
    assert http.post("/v1/recommend", json={"user_id": "k", "num": 1}).status_code == 200


def test_archiver_moves_events_and_survives_failures(tmp_path: Path) -> None:
    write_world(tmp_path)
    shutil.rmtree(tmp_path / "bundles" / "dftopk")
    config = tmp_path / "experiments.toml"
    config.write_text('version = 1\n[defaults]\nbundle = "baseline"\n')
    (tmp_path / "events").write_text("in the way")
    server = ServerProcess(tmp_path, archive_interval_s="0.2")
    server.start()
    answer = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "u"}).json()
    assert answer["experiments"] == []
    wait_for_metric(server, r"cascade_archive_failures_total [1-9]")
    (tmp_path / "events").unlink()
    wait_for_metric(server, r"cascade_archived_events_total 1\.0")
    assert list((tmp_path / "events").glob("day=*/*.parquet"))
    assert server.stop(signal.SIGINT) == 0
    log = server.log_path.read_text()
    assert "step archive failed; next try in 0.2 s" in log


def wait_for_metric(server: ServerProcess, pattern: str) -> None:
    deadline = time.monotonic() + 10
    while not re.search(pattern, httpx.get(f"{server.url}/metrics").text):
        assert time.monotonic() < deadline, pattern
        time.sleep(0.05)
