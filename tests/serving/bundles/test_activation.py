"""Bundles change under a real server, over HTTP: activation, rollback, refusals, restarts."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from tests.serving.bundles.answers import (
    BASELINE,
    PATIENCE_S,
    UPSIDE_DOWN,
    activate,
    answer,
    metric,
    refusal,
    served,
    wait_until,
)
from tests.serving.patience import SLOW_STORE
from tests.serving.world import N_ITEMS, ServerProcess, write_tiny_bundle


def test_activation_and_rollback(http: httpx.Client, server: ServerProcess) -> None:
    assert answer(http) == BASELINE
    done = activate(http, "upside-down")
    assert (done["bundle"], done["source"]) == ("upside-down@1", "upside-down")
    assert (done["previous_bundle"], done["previous_source"]) == ("baseline@1", "baseline")
    assert done["tested_requests"] > 4  # the answer above was recorded
    assert done["took_ms"] > done["median_ms"] > 0
    assert answer(http) == UPSIDE_DOWN
    assert metric(server, 'cascade_bundle_info{bundle="upside-down@1",name="baseline"}') == 1
    assert metric(server, 'cascade_bundle_info{bundle="baseline@1",name="baseline"}') == 0
    assert activate(http, done["previous_source"])["bundle"] == "baseline@1"
    assert answer(http) == BASELINE


def test_source_is_by_default_the_folder_of_the_name(http: httpx.Client) -> None:
    activate(http, "upside-down")
    assert http.post("/v1/bundles/baseline/activate", json={}).json()["source"] == "baseline"
    assert answer(http) == BASELINE


def test_what_is_served_and_what_could_be(http: httpx.Client) -> None:
    activate(http, "upside-down")
    listed = http.get("/v1/bundles").json()
    assert listed["folders"] == ["baseline", "damaged", "dftopk", "scoreless", "upside-down"]
    [entry] = listed["served"]
    assert entry.pop("since").startswith("20")
    assert entry == {
        "name": "baseline",
        "source": "upside-down",
        "bundle": "upside-down@1",
        "created": "2026-01-01T00:00:00Z",
        "fault": None,
        "shadow": None,
        "shadow_fault": None,
    }


def test_old_bundles_leave_memory(http: httpx.Client, server: ServerProcess) -> None:
    for source in ("upside-down", "baseline") * 2:
        activate(http, source)
        answer(http)
    wait_until(lambda: http.get("/v1/bundles").json()["held"] == 1)
    wait_until(
        lambda: (
            metric(server, "cascade_bundles_loaded_total")
            == metric(server, "cascade_bundles_freed_total") + 1
        )
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("damaged", r"rank\.pt \(\d+ bytes\) does not match its checksum in manifest\.json"),
        ("scoreless", r"scoreless@1 answers with rank_failed:rank; export the run again"),
        ("nowhere", r"there is no folder 'nowhere' in .*, there are \['baseline', 'damaged', "),
        ("../x", "body.source: String should match pattern"),
        (".hidden", "body.source: String should match pattern"),
        ("", "body.source: String should match pattern"),
    ],
)
def test_refusals_leave_the_old_bundle(http: httpx.Client, source: str, message: str) -> None:
    before = served(http)
    response = http.post("/v1/bundles/baseline/activate", json={"source": source})
    assert re.search(message, refusal(response, 422))
    assert served(http) == before
    assert answer(http) == BASELINE


def test_name_that_is_not_served(http: httpx.Client) -> None:
    response = http.post("/v1/bundles/dftopk/activate", json={})
    assert refusal(response, 404) == (
        "no bundle is served as 'dftopk', there are ['baseline']; name it in experiments.toml first"
    )


def test_an_overwritten_folder_can_be_activated_again(
    http: httpx.Client, server: ServerProcess
) -> None:
    folder = server.data_dir / "bundles" / "baseline"
    try:
        write_tiny_bundle(folder, -1.0)
        assert answer(http) == BASELINE
        activate(http, "baseline")
        assert answer(http) == ("baseline@1", UPSIDE_DOWN[1])
    finally:
        write_tiny_bundle(folder, 1.0)


@contextmanager
def second_worker(server: ServerProcess) -> Iterator[httpx.Client]:
    """Another process that shares the store and the files of `server`."""
    worker = ServerProcess(server.data_dir)
    worker.start()
    assert worker.process is not None
    try:
        with httpx.Client(base_url=worker.url, timeout=30) as http:
            http.headers["x-pid"] = str(worker.process.pid)
            yield http
        worker.process.terminate()
        assert worker.process.wait(PATIENCE_S) == 0
    finally:
        worker.process.kill()
        worker.process.wait()


def test_other_workers_follow_or_say_why_not(http: httpx.Client, server: ServerProcess) -> None:
    candidate = server.data_dir / "bundles" / "upside-down"
    away = server.data_dir / "away"
    with second_worker(server) as other:
        assert answer(other) == BASELINE
        activate(http, "upside-down")
        wait_until(lambda: answer(other) == UPSIDE_DOWN)
        activate(http, "baseline")
        wait_until(lambda: answer(other) == BASELINE)
        followed = 'cascade_bundle_swaps_total{name="baseline",outcome="followed"} 2.0'
        assert followed in other.get("/metrics").text
        assert followed not in http.get("/metrics").text
        # It misses an activation, and when it looks the folder is gone.
        os.kill(int(other.headers["x-pid"]), signal.SIGSTOP)
        activate(http, "upside-down")
        candidate.rename(away)
        os.kill(int(other.headers["x-pid"]), signal.SIGCONT)
        wait_until(lambda: served(other)["fault"])
        assert served(other)["fault"].startswith(
            "'upside-down' was activated, but: there is no folder 'upside-down' in "
        )
        assert answer(other) == BASELINE
        away.rename(candidate)
        wait_until(lambda: answer(other) == UPSIDE_DOWN)
        assert served(other)["fault"] is None


def test_restart_after_a_crash_serves_what_was_activated(
    http: httpx.Client, server: ServerProcess
) -> None:
    activate(http, "upside-down")
    assert "upside-down" in (server.data_dir / "bundles.json").read_text()
    (server.data_dir / "bundles.json").unlink()  # the store knows it, too
    server.kill()
    server.start()
    assert answer(http) == UPSIDE_DOWN


def is_whole(response: httpx.Response) -> bool:
    """Whether nothing is missing but for the store, which may be slow for reasons of its own."""
    return SLOW_STORE.issuperset(response.json()["degraded"])


class Load:
    """Requests without pause from several threads, each with a connection of its own."""

    def __init__(self, url: str, threads: int) -> None:
        self.answers: list[tuple[str, list[str]]] = []
        self.failures: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def heard(self, bundle: str, since: int) -> bool:
        """Whether a bundle answered after the first `since` answers, or a request failed."""
        return bool(self.failures) or any(said == bundle for said, _ in self.answers[since:])

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            headers = {"x-deadline-ms": "30000"}
            while not self._stop.is_set():
                body = {"user_id": f"u{number}", "num": N_ITEMS}
                response = http.post("/v1/recommend", json=body, headers=headers)
                if response.status_code != 200 or not is_whole(response):
                    self.failures.append(response.text)
                    return
                said = response.json()
                self.answers.append((said["bundle"], [i["item_id"] for i in said["items"]]))


def test_activation_under_full_load_fails_and_mixes_nothing(
    http: httpx.Client, server: ServerProcess
) -> None:
    numbers = [n for n in range(1, N_ITEMS + 1) if n != 3]
    upwards = [f"i{n}" for n in numbers]
    orders = {"baseline@1": upwards[::-1], "upside-down@1": upwards}
    with Load(server.url, threads=6) as load:
        for source in ("upside-down", "baseline") * 5:
            expected = f"{source}@1"
            before = len(load.answers)
            assert activate(http, source)["bundle"] == expected
            wait_until(partial(load.heard, expected, before))
    assert load.failures == []
    assert {said for said, _ in load.answers} == set(orders)
    for said, items in load.answers:
        assert items == orders[said]
    wait_until(lambda: http.get("/v1/bundles").json()["held"] == 1)
