"""The last order over HTTP, from two workers: policies, rules that change, explanations."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from abtest.split.config import parse_config
from abtest.split.splitter import Splitter
from tests.serving.world import (
    EXPERIMENTS,
    N_ITEMS,
    UNAVAILABLE,
    ServerProcess,
    write_world,
)

DEFAULTS = """bundle = "baseline"
cap_field = ""
cap = 0
diversity = "none"
diversity_strength = 0.3
"""
ORDER = """
[[layers]]
name = "order"
unit = "user_id"
seed = "order"

[[layers.experiments]]
key = "order"
revision = 1
state = "running"
control = "plain"
variants = [
    { name = "plain", weight = 0.3, params = { cap = 0 } },
    { name = "capped", weight = 0.4, params = { cap_field = "colour", cap = 2 } },
    { name = "diverse", weight = 0.3, params = { diversity = "mmr", diversity_strength = 0.8 } },
]
"""
CONFIG = EXPERIMENTS.replace('bundle = "baseline"\n', DEFAULTS, 1) + ORDER
SPLITTER = Splitter(parse_config(CONFIG))
BOUGHT = {
    "features": {"taste": "red"},
    "interactions": [
        {"item_id": item_id, "ts": "2026-02-01T00:00:00Z"} for item_id in ("i30", "i28")
    ],
}
RULES = """
[[pins]]
name = "launch"
item = "i40"
position = 1

[[boosts]]
name = "sale"
factor = 3
items = ["i5"]
context = { channel = ["app"] }

[[blocks]]
name = "no-reds"
fields = { colour = ["red"] }
context = { channel = ["web"] }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("reranked")
    write_world(data_dir)
    (data_dir / "experiments.toml").write_text(CONFIG)
    process = ServerProcess(data_dir, workers="2")
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()


def user_of(order: str) -> str:
    names = (f"user{n}" for n in range(1000))
    return next(name for name in names if _arms(name) == {"baseline", order})


def _arms(user: str) -> set[str]:
    return {a.variant for a in SPLITTER.assign(user, now_us=0).assignments}


def recommend(server: ServerProcess, **body: object) -> dict[str, Any]:
    """The answer over a connection of its own, so that it may come from either worker."""
    response = httpx.post(f"{server.url}/v1/recommend", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def item_ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def eventually(server: ServerProcess, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until a condition holds for many answers in a row, so for those of both workers."""
    deadline, in_a_row = time.monotonic() + 20, 0
    while in_a_row < 8:
        assert time.monotonic() < deadline, server.log_path.read_text()
        in_a_row = in_a_row + 1 if holds(recommend(server, user_id=user_of("plain"), num=3)) else 0


def explained(answer: dict[str, Any], what: str) -> list[Any]:
    return [item["explanation"][what] for item in answer["items"]]


def test_a_cap_holds_and_is_broken_openly(server: ServerProcess) -> None:
    user = user_of("capped")
    httpx.put(f"{server.url}/v1/users/{user}", json=BOUGHT).raise_for_status()
    answer = recommend(server, user_id=user, num=4)
    assert item_ids(answer) == ["i30", "i28", "i21", "i19"]
    assert answer["degraded"] == []
    # Of what was recalled only red items are left.
    answer = recommend(server, user_id=user, num=5, explain=True)
    assert item_ids(answer) == ["i30", "i28", "i21", "i19", "i17"]
    assert answer["degraded"] == ["cap_broken:policy"]
    assert explained(answer, "rules") == [[], [], [], [], ["cap_broken:policy"]]


def test_an_answer_is_explained(server: ServerProcess) -> None:
    user = user_of("diverse")
    httpx.put(f"{server.url}/v1/users/{user}", json=BOUGHT).raise_for_status()
    answer = recommend(server, user_id=user, num=4, explain=True)
    # The second bought item is blue like the first, so a red one comes between.
    assert item_ids(answer) == ["i30", "i21", "i28", "i19"]
    assert explained(answer, "rules") == [[], ["mmr"], [], []]
    assert explained(answer, "sources") == [["history"], ["index"], ["history"], ["index"]]
    scores = explained(answer, "scores")[0]
    assert scores == {"retrieval": pytest.approx(0.1 * 10 / N_ITEMS), "rank": 1030}
    assert {"features", "retrieval", "rank", "rerank", "total"} <= set(answer["latency_us"])
    assert [stage["name"] for stage in answer["stages"]] == ["retrieval", "rank"]


def test_nothing_is_explained_unasked(server: ServerProcess) -> None:
    answer = recommend(server, user_id="anyone", num=1)
    assert {"stages", "latency_us"}.isdisjoint(answer)
    assert set(answer["items"][0]) == {"item_id", "position", "score"}


def test_rules_come_into_force_in_every_worker(server: ServerProcess) -> None:
    path, user = server.data_dir / "rules.toml", user_of("plain")
    path.write_text(RULES)
    eventually(server, lambda answer: item_ids(answer)[1] == "i40")
    answer = recommend(server, user_id=user, num=3, explain=True)
    assert item_ids(answer) == ["i11", "i40", "i10"]
    assert explained(answer, "rules") == [[], ["pin:launch"], []]
    # The probabilities are so near to 1 that the boost decides.
    answer = recommend(server, user_id=user, num=3, context={"channel": "app"}, explain=True)
    assert item_ids(answer) == ["i5", "i40", "i11"]
    assert explained(answer, "rules")[0] == ["boost:sale"]
    # What is blocked gives its places to others.
    answer = recommend(server, user_id=user, num=20, context={"channel": "web"})
    assert sorted(item_ids(answer)) == sorted(f"i{n}" for n in range(2, N_ITEMS + 1, 2))
    answer = recommend(server, user_id=user, num=3, exclude=["i40"])
    assert item_ids(answer) == ["i11", "i10", "i9"]
    # A pinned item that is not available is not shown.
    path.write_text(RULES.replace("i40", UNAVAILABLE))
    eventually(server, lambda answer: item_ids(answer)[1] == "i10")
    path.write_text("[[pins]]\n")
    deadline = time.monotonic() + 20
    metric = 'cascade_bad_files_total{file="rules.toml"} 2.0'
    while metric not in httpx.get(f"{server.url}/metrics").text:
        assert time.monotonic() < deadline, server.log_path.read_text()
        time.sleep(0.05)
    assert "rules.toml: pins.0.name is missing" in server.log_path.read_text()
    app = {"channel": "app"}
    assert item_ids(recommend(server, user_id=user, num=1, context=app)) == ["i5"]
    path.unlink()
    eventually(
        server, lambda _: item_ids(recommend(server, user_id=user, num=3, context=app))[0] == "i11"
    )
