"""Items over HTTP, in a real server and in two that share a store."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.state.valkey import EmbeddedValkey
from tests.serving.world import N_ITEMS, SPARE_ROWS, UNAVAILABLE, ServerProcess, write_world

BASELINE, DFTOPK = "baseline@1", "dftopk@1"
USERS = [f"user{n}" for n in range(8)]
"""Users of both arms."""


def put(server: ServerProcess, *items: Mapping[str, object]) -> dict[str, Any]:
    response = httpx.put(f"{server.url}/v1/items", json={"items": items})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def known(server: ServerProcess, item_id: str) -> dict[str, Any]:
    response = httpx.get(f"{server.url}/v1/items/{item_id}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def recommended(server: ServerProcess, num: int = 200) -> list[set[str]]:
    """The items that users of both arms get."""
    answers = []
    for user in USERS:
        response = httpx.post(f"{server.url}/v1/recommend", json={"user_id": user, "num": num})
        assert response.status_code == 200, response.text
        answers.append({item["item_id"] for item in response.json()["items"]})
    return answers


def wait_until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_put_answers_at_once(server: ServerProcess) -> None:
    new = {"item_id": "a/new one", "popularity": 90, "price_micros": 10**15, "available": True}
    done = put(server, new, {"item_id": "i1", "available": False}, {"item_id": "i2", "fields": {}})
    assert done == {"put": 3, "new": 1, "refused": {}}
    assert put(server, {**new, "fields": {"colour": "red", "size": "XL"}})["new"] == 0
    for items in recommended(server):
        assert "a/new one" in items
        assert not {"i1", UNAVAILABLE} & items
        assert len(items) == N_ITEMS - 1
    held = {"row": 41, "available": True, "price_micros": 10**15, "popularity": 90.0}
    assert known(server, "a%2Fnew%20one") == {
        "item_id": "a/new one",
        "put": {
            "available": True,
            "price_micros": 10**15,
            "popularity": 90.0,
            "fields": {"colour": "red", "size": "XL"},
        },
        "bundles": {
            BASELINE: {**held, "fields": {"colour": "red"}},
            DFTOPK: {**held, "fields": {"colour": "red"}},
        },
    }


def test_new_items_beyond_the_spare_rows_are_refused_visibly(server: ServerProcess) -> None:
    taken = {"item_id": "first"}
    assert put(server, taken)["refused"] == {}
    items: list[dict[str, object]] = [{"item_id": f"n{n}"} for n in range(SPARE_ROWS + 1)]
    done = put(server, *items)
    assert done["new"] == SPARE_ROWS + 1
    assert set(done["refused"]) == {BASELINE, DFTOPK}
    refused = done["refused"][BASELINE]
    assert done["refused"][DFTOPK] == refused
    assert f"n{SPARE_ROWS}" in refused
    assert known(server, refused[0])["bundles"] == {}
    for found in recommended(server):
        assert "first" in found
        assert not set(refused) & found
    metrics = httpx.get(f"{server.url}/metrics").text
    assert f'cascade_items_refused_total{{bundle="{BASELINE}"}} {len(refused)}.0' in metrics
    assert "cascade_items_put_total " in metrics


def test_item_that_only_the_bundles_know(http: httpx.Client) -> None:
    answer = http.get("/v1/items/i4").json()
    assert answer["put"] is None
    assert answer["bundles"][BASELINE] == {
        "row": 4,
        "available": True,
        "price_micros": 1_000_000,
        "popularity": N_ITEMS - 4,
        "fields": {"colour": "blue"},
    }


def test_item_that_nobody_knows(http: httpx.Client) -> None:
    response = http.get("/v1/items/who")
    assert response.status_code == 404
    assert response.json()["detail"] == (
        "item 'who' is in no bundle and was never put; put it with PUT /v1/items"
    )


@pytest.mark.parametrize(
    ("item", "field", "rule"),
    [
        ({}, "body.items.0.item_id", "Field required"),
        ({"item_id": "a", "price_micros": -1}, "body.items.0.price_micros", "greater than or"),
        ({"item_id": "a", "price_micros": 1.5}, "body.items.0.price_micros", "valid integer"),
        ({"item_id": "a", "popularity": 1e39}, "body.items.0.popularity", "less than or equal"),
        ({"item_id": "a", "available": "yes"}, "body.items.0.available", "valid boolean"),
        ({"item_id": "a", "price": 1}, "body.items.0.price", "Extra inputs are not permitted"),
    ],
)
def test_refused_bodies(http: httpx.Client, item: dict[str, object], field: str, rule: str) -> None:
    response = http.put("/v1/items", json={"items": [item]})
    assert response.status_code == 422
    fault = response.json()["errors"][0]
    assert fault["field"] == field
    assert rule in fault["rule"]


def test_no_items_and_too_many(http: httpx.Client) -> None:
    for items in ([], [{"item_id": "a"}] * 1001):
        response = http.put("/v1/items", json={"items": items})
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "body.items"


def test_every_worker_follows_and_a_new_one_knows(tmp_path: Path) -> None:
    """Two servers on one store are what two workers of one are: they share nothing else."""
    valkey = EmbeddedValkey(tmp_path / "valkey")
    servers = []
    for name in ("one", "two"):
        write_world(tmp_path / name)
        url = f"unix://{valkey.socket_path}"
        servers.append(ServerProcess(tmp_path / name, redis_url=url))
        servers[-1].start()
    one, two = servers
    try:
        put(one, {"item_id": "new", "popularity": 90}, {"item_id": "i5", "available": False})
        wait_until(lambda: all("new" in i and "i5" not in i for i in recommended(two)))
        put(two, {"item_id": "new", "available": False})
        put(one, {"item_id": "i5", "available": True})
        for server in servers:
            wait_until(
                lambda asked=server: all(  # type: ignore[misc]
                    "new" not in i and "i5" in i for i in recommended(asked)
                )
            )
        two.kill()
        put(one, {"item_id": "new", "available": True}, {"item_id": "i5", "available": False})
        two.start()
        assert all("new" in i and "i5" not in i for i in recommended(two))
    finally:
        for server in servers:
            server.kill()
        valkey.close()
