"""Reports over HTTP, from a real server whose background process makes them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from fastapi import FastAPI

from abtest.report.index import Entry, Index, write_index
from abtest.report.model import Report
from serving.api import errors, reports
from serving.settings import Settings
from tests.abtest.conftest import valkey, valkey_server
from tests.serving.reports.traffic import slow_variant
from tests.serving.world import EXPERIMENTS, ServerProcess, write_world

__all__ = ["valkey", "valkey_server"]

KEY = "dftopk-vs-baseline"


@pytest.fixture
def server(tmp_path: Path, valkey: redis.Redis) -> Iterator[ServerProcess]:
    write_world(tmp_path)
    rail = 'guardrails = [{ metric = "latency_mean", tolerance = 0.1 }]'
    text = EXPERIMENTS.replace('control = "baseline"', f'control = "baseline"\n{rail}')
    (tmp_path / "experiments.toml").write_text(text)
    slow_variant(valkey, tmp_path / "elsewhere")
    process = ServerProcess(tmp_path, archive_interval_s="0.5", report_interval_s="0.5")
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()


def until(found: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_report_appears_and_a_broken_guardrail_ends_the_experiment(
    server: ServerProcess,
) -> None:
    with httpx.Client(base_url=server.url, timeout=10) as http:
        missing = http.get(f"/v1/experiments/{KEY}/report")
        assert missing.status_code == 404
        assert missing.headers["content-type"] == "application/problem+json"
        assert missing.json()["detail"] == (
            f"there is no report of '{KEY}' yet; one is made every 0.5 s of each experiment that "
            "is not a draft and has archived events (GET /v1/experiments lists them), or at once "
            f"by `cascade report {KEY}`"
        )
        assert http.get("/v1/experiments/No Key/report").status_code == 422
        assert http.get("/v1/experiments/reports").json() == []
        (server.data_dir / "elsewhere").rename(server.data_dir / "events")

        until(lambda: http.get(f"/v1/experiments/{KEY}/report").status_code == 200)
        report = Report.model_validate_json(http.get(f"/v1/experiments/{KEY}/report").content)
        assert report.guards[0].broken
        (line,) = http.get("/v1/experiments/reports").json()
        assert (line["key"], line["call"], line["units"]) == (KEY, "stop", 300)

        def state() -> str:
            (domain,) = http.get("/v1/experiments").json()["config"]["domains"]
            return str(domain["layers"][0]["experiments"][0]["state"])

        until(lambda: state() == "killed")
        change = http.get("/v1/experiments/audit", params={"limit": 1}).json()
        assert '"by":"guardrail"' in str(change).replace("'", '"').replace(" ", "")
        answer = http.post("/v1/recommend", json={"user_id": "u1"}).json()
        assert answer["experiments"] == []


def test_why_there_is_no_report(tmp_path: Path) -> None:
    app = FastAPI()
    app.state.settings = Settings(data_dir=tmp_path)
    app.include_router(reports.router)
    errors.install(app)
    entry = Entry(made_from="", summary=None, fault="the archive holds no answer; serve traffic")
    write_index(tmp_path / "reports", Index(entries={KEY: entry}))

    async def get(path: str) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await http.get(path)

    answer = asyncio.run(get(f"/v1/experiments/{KEY}/report"))
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        f"no report of '{KEY}' could be made: the archive holds no answer; serve traffic"
    )
    assert asyncio.run(get("/v1/experiments/reports")).json() == []
