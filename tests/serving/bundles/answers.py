"""What tests ask a server whose bundles change, and what they compare its answers with."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.serving.bundles.candidates import write_damaged_bundle, write_scoreless_bundle
from tests.serving.world import ServerProcess, write_tiny_bundle, write_world

PATIENCE_S = 60
EVERYBODY = 'version = 1\n[defaults]\nbundle = "baseline"\n'


def write_candidates(data_dir: Path) -> None:
    """The world, all traffic to `baseline`, which has an upside-down successor and bad ones."""
    write_world(data_dir)
    (data_dir / "experiments.toml").write_text(EVERYBODY)
    write_tiny_bundle(data_dir / "bundles" / "upside-down", -1.0)
    write_damaged_bundle(data_dir / "bundles" / "damaged")
    write_scoreless_bundle(data_dir / "bundles" / "scoreless")


def activate(http: httpx.Client, source: str, name: str = "baseline") -> dict[str, Any]:
    response = http.post(f"/v1/bundles/{name}/activate", json={"source": source})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refusal(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    detail: str = response.json()["detail"]
    return detail


def answer(http: httpx.Client, num: int = 3) -> tuple[str, list[str]]:
    body = http.post("/v1/recommend", json={"user_id": "u", "num": num}).json()
    return body["bundle"], [item["item_id"] for item in body["items"]]


BASELINE = ("baseline@1", ["i11", "i10", "i9"])
UPSIDE_DOWN = ("upside-down@1", ["i1", "i2", "i4"])


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def metric(server: ServerProcess, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def served(http: httpx.Client) -> dict[str, Any]:
    [entry] = http.get("/v1/bundles").json()["served"]
    return dict(entry)
