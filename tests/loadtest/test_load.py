"""The load test in real processes: against servers that misbehave, and against the real one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.loadtest import LOCUSTFILE
from loadtest.delivery import INVALID, MET, MISSED
from tests.loadtest.misbehaving import Body, Reply, good, misbehaving, recommendation
from tests.serving.world import ServerProcess, free_port, write_world

QUICK = ("--think-s", "0.05", "--users", "2")


def start(*words: str | Path, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-m", "cli", "loadtest", *map(str, words)]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def finish(test: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, errors = test.communicate(timeout=100)
    return test.returncode, out, errors


def phases(path: Path) -> list[dict[str, Any]]:
    return [phase for step in json.loads(path.read_text())["steps"] for phase in step["phases"]]


def test_an_open_loop_sees_a_freeze_that_a_closed_loop_hides(tmp_path: Path) -> None:
    with misbehaving(every_s=1.5, frozen_s=0.5) as (url, _):
        code, out, errors = finish(
            start("smoke", "--url", url, "--step-s", "3", "--json", tmp_path / "r.json",
                  "--think-s", "0.005", "--users", "2")
        )  # fmt: skip
    assert code == MET, out + errors
    closed, opened = (phase["routes"]["recommend"] for phase in phases(tmp_path / "r.json"))
    assert closed["failed"] == opened["failed"] == 0
    # A third of the time it is frozen: of the arrivals a third waits, of two users two.
    assert opened["latency_ms"]["p95"] > 200 > closed["latency_ms"]["p95"]
    assert opened["latency_ms"]["max"] > 400
    # They were sent all the same, though those before them were not answered.
    assert opened["service_ms"]["p95"] > 200
    assert re.search(r"^capacity +2 users  p50 p95 p99 .* in time \d", errors, re.MULTILINE)


def mixed(path: str, body: Body, number: int) -> Reply:
    """Of five recommendations one is shed, one is degraded, and one has items twice."""
    if path != "/v1/recommend":
        return good(path, body, number)
    return (
        Reply(200, recommendation(body["num"])),
        Reply(503, {}, {"Retry-After": "1"}),
        Reply(200, recommendation(body["num"], degraded=["no store"])),
        Reply(200, recommendation(body["num"])),
        Reply(200, recommendation(2, items=2 * [{"item_id": "i", "position": 0, "score": 1}])),
    )[number % 5]


SLO = """
version = 1
[[objectives]]
name = "ours"
at_rate_per_s = 40
p99_ms = 60000
failed_share = {failed}
shed_share = 0.5
degraded_share = 0.5
"""


def test_outcomes_are_told_apart_by_two_processes(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text(SLO.format(failed=0.1))
    with misbehaving(mixed) as (url, asked):
        code, out, errors = finish(
            start("smoke", "--url", url, "--step-s", "1.5", "--slo", tmp_path / "slo.toml",
                  "--deadline-ms", "70", "--num", "7", "--html", tmp_path / "r.html", *QUICK,
                  "--", "--processes", "2", CASCADE_API_KEY="secret")
        )  # fmt: skip
    assert code == MISSED, out + errors
    closed, opened = phases(tmp_path / "r.json")
    recommend = opened["routes"]["recommend"]
    sent = [(path, body) for path, body in asked.bodies if path == "/v1/recommend"]
    assert len(sent) == sum(p["routes"]["recommend"]["requests"] for p in (closed, opened))
    assert 40 < recommend["requests"] < 110  # 50 a second for 1.5 s, from both together
    for outcome, share in (("ok", 0.4), ("shed", 0.2), ("degraded", 0.2), ("failed", 0.2)):
        assert recommend[outcome] == pytest.approx(share * recommend["requests"], abs=4)
    assert recommend["degraded_by_reason"] == {"no store": recommend["degraded"]}
    assert recommend["failures"] == {
        "recommend: positions do not count from 0": recommend["failed"]
    }
    assert recommend["latency_ms"]["p50"] > recommend["service_ms"]["p50"]
    assert opened["routes"]["events"]["failed"] == 0
    assert opened["routes"]["interactions"]["ok"] == opened["routes"]["events"]["ok"] > 0
    posted = [headers for headers in asked.headers if "content-length" in headers]
    assert {headers.get("authorization") for headers in posted} == {"Bearer secret"}
    assert {headers.get("x-deadline-ms") for headers in posted} == {"70"}
    assert {body["num"] for _, body in sent} == {7}
    objectives = {
        c["measure"]: c for c in json.loads((tmp_path / "r.json").read_text())["objectives"]
    }
    assert {name: c["met"] for name, c in objectives.items()} == {
        "p99_ms": True, "failed_share": False, "shed_share": True, "degraded_share": True,
    }  # fmt: skip
    assert re.search(r"ours +failed +10\.0 % +\d\d\.\d % +50/s(, generator late)? +MISSED", out), (
        out
    )
    assert "Objectives: 1 of 4 limits missed." in out
    assert "no store" in (tmp_path / "r.html").read_text()


def test_a_server_that_only_fails_ends_the_test(tmp_path: Path) -> None:
    def broken(path: str, body: Body, number: int) -> Reply:
        return Reply(500, {}) if path == "/v1/recommend" else good(path, body, number)

    with misbehaving(broken) as (url, _):
        code, _, errors = finish(
            start("knee", "--url", url, "--step-s", "0.5", "--json", tmp_path / "r.json", *QUICK)
        )
    assert code == INVALID
    assert "recommendations was answered well in 0.5 s (recommend: status 500); see the s" in errors
    assert not (tmp_path / "r.json").exists()
    assert "Traceback" not in errors


def test_ctrl_c_ends_early_and_is_no_success() -> None:
    with misbehaving() as (url, asked):
        test = start("soak", "--url", url, "--rate", "50", *QUICK)
        deadline = time.monotonic() + 60
        while len(asked.bodies) < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(test.pid, signal.SIGINT)
        code, out, errors = finish(test)
    assert code == INVALID
    assert "Objectives" not in out
    assert "Traceback" not in errors


def test_a_copy_of_a_data_directory_is_served_and_the_directory_left_alone(tmp_path: Path) -> None:
    write_world(tmp_path / "var")
    before = sorted(tmp_path.rglob("*"))
    url = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "users.txt").write_text("anna\nbob\n")
    code, out, errors = finish(
        start("smoke", "--url", url, "--serve", tmp_path / "var", "--step-s", "1", *QUICK,
              "--users-from", tmp_path / "users.txt", "--json", tmp_path / "r.json",
              CASCADE_REDIS_URL="redis://127.0.0.1:9")
    )  # fmt: skip
    assert code == MET, out + errors
    for phase in phases(tmp_path / "r.json"):
        for tally in phase["routes"].values():
            assert tally["failed"] == 0
            # With a store that is away most answers would be degraded.
            assert tally["ok"] > tally["requests"] / 2
    assert json.loads((tmp_path / "r.json").read_text())["traffic"]["users"] == 2
    new = {path.name for path in set(tmp_path.rglob("*")) - set(before)}
    assert new == {"users.txt", "r.json"}


def test_what_cannot_be_run_is_said_in_one_line(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for words, message in (
        (("--url", nobody), f"error: no server is ready at {nobody} ("),
        (("--url", nobody, "--rate", "0"), "error: --rate 0 must be above 0"),
        (("--url", nobody, "--serve", tmp_path), "holds no experiments.toml; run `make demo` fir"),
    ):
        code, _, errors = finish(start("smoke", *words))
        assert code == INVALID
        assert message in errors
        assert "Traceback" not in errors


def answered(server: ServerProcess) -> dict[str, int]:
    """How often each route has answered well so far."""
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(
        r'^cascade_http_requests_total{.*route="(.*)",status="2.*"} (\d+)', text, re.M
    )
    return {route: int(number) for route, number in found}


def test_the_locustfile_serves_those_who_know_locust(server: ServerProcess) -> None:
    routes = ("/v1/recommend", "/v1/events", "/v1/users/{user_id}/interactions")
    before = answered(server)
    locust = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "locust", "-f", LOCUSTFILE, "--headless",
         "--only-summary", "--host", server.url, "--users", "2", "--spawn-rate", "2",
         "--think-s", "0.01", "--buying-share", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while any(answered(server).get(route, 0) < before.get(route, 0) + 5 for route in routes):
            assert time.monotonic() < deadline
            assert locust.poll() is None
            time.sleep(0.2)
    finally:
        locust.terminate()
    code, _, errors = finish(locust)
    assert code == MET, errors
    for entry in ("recommend", "events", "interactions"):
        assert re.search(rf"POST +{entry} +[1-9]\d* +0\(0.00%\)", errors), errors
