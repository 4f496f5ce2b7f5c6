"""Answers of the tiny world, over HTTP."""

from typing import Any

import httpx
import pytest
import redis

from abtest.events import EVENT_ADAPTER, RankingEvent
from abtest.log.event_log import FIELD, STREAM
from abtest.split.config import parse_config
from abtest.split.splitter import Splitter
from tests.serving.world import EXPERIMENTS, KEEP, N_ITEMS, UNAVAILABLE, ServerProcess

SPLITTER = Splitter(parse_config(EXPERIMENTS))
TS = "2026-03-01T12:00:00Z"


def user_of(bundle: str, prefix: str = "user") -> str:
    names = (f"{prefix}{n}" for n in range(1000))
    return next(
        name for name in names if SPLITTER.assign(name, now_us=0).params["bundle"] == bundle
    )


def recommend(http: httpx.Client, **body: object) -> dict[str, Any]:
    response = http.post("/v1/recommend", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def item_ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def ranking_event(server: ServerProcess, request_id: str) -> RankingEvent:
    client = redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock"))
    entries: Any = client.xrange(STREAM)
    parsed = [EVENT_ADAPTER.validate_json(fields[FIELD.encode()]) for _, fields in entries]
    [found] = [e for e in parsed if isinstance(e, RankingEvent) and e.request_id == request_id]
    return found


def test_newcomer_gets_the_most_popular_items_in_ranked_order(http: httpx.Client) -> None:
    answer = recommend(http, user_id=user_of("baseline", "new"), num=5)
    # The ten most popular available items are 1, 2, 4 .. 11, ranked by number.
    assert item_ids(answer) == ["i11", "i10", "i9", "i8", "i7"]
    assert [item["position"] for item in answer["items"]] == [0, 1, 2, 3, 4]
    assert answer["degraded"] == []
    assert answer["bundle"] == "baseline@1"


def test_variant_decides_the_bundle(http: httpx.Client) -> None:
    answer = recommend(http, user_id=user_of("dftopk", "new"), num=3)
    assert item_ids(answer) == ["i1", "i2", "i4"]
    assert answer["bundle"] == "dftopk@1"
    assert answer["experiments"] == [
        {"layer": "model", "key": "dftopk-vs-baseline", "revision": 1, "variant": "dftopk"}
    ]


def test_features_and_history_shape_the_answer(http: httpx.Client) -> None:
    user = user_of("baseline", "red")
    body = {
        "features": {"taste": "red", "age": None, "unheard-of": "x"},
        "interactions": [
            {"item_id": "i30", "ts": "2026-02-01T00:00:00Z"},
            {"item_id": "sold nowhere", "ts": "2026-02-02T00:00:00Z"},
        ],
    }
    assert http.put(f"/v1/users/{user}", json=body).status_code == 204
    assert item_ids(recommend(http, user_id=user, num=4, ts=TS)) == ["i30", "i21", "i19", "i17"]


def test_interactions_after_the_request_are_not_seen(http: httpx.Client) -> None:
    user = user_of("baseline", "late")
    bought = [{"item_id": "i30", "ts": "2026-04-01T00:00:00Z"}]
    http.post(f"/v1/users/{user}/interactions", json={"interactions": bought})
    assert item_ids(recommend(http, user_id=user, num=1, ts=TS)) == ["i11"]
    assert item_ids(recommend(http, user_id=user, num=1, ts="2026-04-02T00:00:00Z")) == ["i30"]


def test_empty_history_is_a_newcomer(http: httpx.Client) -> None:
    user = user_of("baseline", "empty")
    assert http.put(f"/v1/users/{user}", json={}).status_code == 204
    assert item_ids(recommend(http, user_id=user, num=1)) == ["i11"]


@pytest.mark.parametrize("num", [1, 20, 39, 200])
def test_as_many_items_as_exist_are_returned(http: httpx.Client, num: int) -> None:
    answer = recommend(http, user_id="anyone", num=num)
    assert len(set(item_ids(answer))) == min(num, N_ITEMS - 1)
    assert UNAVAILABLE not in item_ids(answer)
    assert answer["degraded"] == []


def test_excluded_items_give_their_places_to_others(http: httpx.Client) -> None:
    excluded = [f"i{n}" for n in range(1, 25)] + ["sold nowhere"]
    user = user_of("dftopk", "full")
    answer = recommend(http, user_id=user, num=KEEP, exclude=excluded)
    assert item_ids(answer) == [f"i{n}" for n in range(25, 25 + KEEP)]
    everything = [f"i{n}" for n in range(1, N_ITEMS + 1)]
    assert item_ids(recommend(http, user_id=user, exclude=everything)) == []


@pytest.mark.parametrize("mode", ["nan", "fail"])
def test_failing_stage_leaves_the_order_of_the_stage_before(http: httpx.Client, mode: str) -> None:
    answer = recommend(http, user_id="anyone", num=4, context={"mode": mode})
    assert item_ids(answer) == ["i1", "i2", "i4", "i5"]
    assert answer["degraded"] == ["rank_failed:rank"]


def test_failing_recall_falls_back_to_history_and_popularity(http: httpx.Client) -> None:
    user = user_of("baseline", "lost")
    bought = [{"item_id": "i30", "ts": "2026-02-01T00:00:00Z"}]
    http.post(f"/v1/users/{user}/interactions", json={"interactions": bought})
    answer = recommend(http, user_id=user, num=3, context={"mode": "lost"}, ts=TS)
    assert item_ids(answer) == ["i30", "i10", "i9"]
    assert answer["degraded"] == ["recall_failed"]


def test_explanation_names_stages_and_counts(http: httpx.Client) -> None:
    answer = recommend(http, user_id="anyone", num=5, explain=True)
    counts = [(s["name"], s["n_in"], s["n_out"]) for s in answer["stages"]]
    assert counts == [("retrieval", N_ITEMS, KEEP), ("rank", KEEP, 5)]
    assert all(s["latency_us"] >= 0 for s in answer["stages"])


def test_ranking_event_is_in_the_log_with_every_stage(
    http: httpx.Client, server: ServerProcess
) -> None:
    user = user_of("baseline", "logged")
    answer = recommend(http, user_id=user, num=5, context={"store": "7"}, ts=TS)
    event = ranking_event(server, answer["request_id"])
    assert event.unit == user
    assert event.event_ts_us == 1_772_366_400_000_000
    assert event.context == {"store": "7"}
    assert event.bundle == "baseline@1"
    assert list(event.item_ids) == item_ids(answer)
    assert event.config_sha == SPLITTER.config_sha
    assert event.experiments == SPLITTER.assign(user, now_us=0).assignments
    steps = {"split", "features", "wait", "encode", "retrieval", "rank", "rerank"}
    assert set(event.latency_us) == {*steps, "total"}
    # Each step is cut to whole microseconds.
    assert 0 <= event.latency_us["total"] - sum(event.latency_us[s] for s in steps) <= len(steps)
    recall, rank = event.stages
    assert rank.item_ids == ("i11", "i10", "i9", "i8", "i7", *rank.item_ids[5:])
    assert sorted(rank.item_ids[5:]) == ["i1", "i2", "i4", "i5", "i6"]
    assert rank.survived == (True,) * 5 + (False,) * 5
    assert len(recall.item_ids) == KEEP + 10
    dropped = recall.item_ids[KEEP:]
    assert len(set(dropped)) == 10
    assert not {"i3", *recall.item_ids[:KEEP]} & set(dropped)
