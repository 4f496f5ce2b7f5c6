"""Errors over HTTP: status, media type, words, and nothing of the inside."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serving.api.errors import install

JSON = {"content-type": "application/json"}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert "Traceback" not in response.text
    return body


def test_unknown_route(http: httpx.Client) -> None:
    body = problem(http.get("/v2/recommend"), 404)
    assert body["detail"] == "there is nothing at /v2/recommend; the routes are listed at /docs"


def test_wrong_method(http: httpx.Client) -> None:
    response = http.get("/v1/recommend")
    assert problem(response, 405)["detail"] == "/v1/recommend does not take GET"
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({"user_id": "u", "num": 0}, "body.num", "Input should be greater than or equal to 1"),
        ({"user_id": "u", "num": 10_000}, "body.num", "Input should be less than or equal to 200"),
        ({"user_id": "u", "num": "many"}, "body.num", "Input should be a valid integer"),
        ({"user_id": 5}, "body.user_id", "Input should be a valid string"),
        ({"user_id": ""}, "body.user_id", "String should have at least 1 character"),
        ({}, "body.user_id", "Field required"),
        ([], "body", "Input should be a valid dictionary"),
        ({"user_id": "u", "k": 1}, "body.k", "Extra inputs are not permitted"),
        ({"user_id": "u", "ts": "2026-01-01T00:00:00"}, "body.ts", "Input should have timezone"),
        ({"user_id": "u", "context": {"a": 1}}, "body.context.a", "Input should be a valid string"),
        ({"user_id": "u", "exclude": ["x"] * 1001}, "body.exclude", "at most 1000 items"),
    ],
)
def test_wrong_recommend_bodies(http: httpx.Client, body: object, field: str, rule: str) -> None:
    found = problem(http.post("/v1/recommend", json=body), 422)
    assert found["errors"][0]["field"] == field
    assert rule in found["errors"][0]["rule"]
    assert found["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/events", {"events": []}, "body.events"),
        ("/v1/events", {"events": ["x"]}, "body.events.0"),
        ("/v1/events", {"events": [{}] * 1001}, "body.events"),
        ("/v1/users/u/interactions", {"interactions": []}, "body.interactions"),
        (
            "/v1/users/u/interactions",
            {"interactions": [{"item_id": "i", "ts": "yesterday"}]},
            "body.interactions.0.ts",
        ),
        (
            f"/v1/users/{'u' * 129}/interactions",
            {"interactions": [{"item_id": "i", "ts": "2026-01-01T00:00:00Z"}]},
            "path.user_id",
        ),
    ],
)
def test_wrong_other_bodies(http: httpx.Client, path: str, body: object, field: str) -> None:
    assert problem(http.post(path, json=body), 422)["errors"][0]["field"] == field


def test_history_is_bounded(http: httpx.Client) -> None:
    interactions = [{"item_id": "i", "ts": "2026-01-01T00:00:00Z"}] * 10_001
    body = problem(http.put("/v1/users/u", json={"interactions": interactions}), 422)
    assert "at most 10000 items" in body["detail"]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b'{"user_id": "u", "num": NaN}', "unexpected character"),
        (b'{"user_id": "u", "num": Infinity}', "unexpected character"),
        (b'{"user_id": "u"', "unexpected end of data"),
        (b'{"user_id": "\xff"}', "str is not valid UTF-8"),
        (b'{"user_id": "\\ud800"}', "surrogate"),
        (b"", "empty document"),
    ],
)
def test_not_json(http: httpx.Client, content: bytes, rule: str) -> None:
    response = http.post("/v1/recommend", content=content, headers=JSON)
    assert rule in problem(response, 422)["errors"][0]["rule"]


def test_nan_in_an_event_refuses_the_batch(http: httpx.Client) -> None:
    content = b'{"events": [{"type": "conversion", "revenue_micros": NaN}]}'
    problem(http.post("/v1/events", content=content, headers=JSON), 422)


def test_body_over_the_limit(http: httpx.Client) -> None:
    body = problem(http.post("/v1/recommend", content=b" " * 1_000_001, headers=JSON), 413)
    assert body["detail"] == "the body is over 1000000 bytes; send it in smaller parts"
    allowed = b'{"user_id": "u"}'.ljust(1_000_000)
    assert http.post("/v1/recommend", content=allowed, headers=JSON).status_code == 200


def test_chunked_body_over_the_limit(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield b" " * 100_000

    body = problem(http.post("/v1/recommend", content=chunks(), headers=JSON), 413)
    assert body["detail"] == "the body is over 1000000 bytes; send it in smaller parts"


def test_a_mistake_of_ours_shows_nothing_of_the_inside() -> None:
    app = FastAPI()
    install(app)

    @app.get("/mistake")
    def mistake() -> None:
        raise KeyError("secret")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/mistake")

    response = asyncio.run(ask())
    body = problem(response, 500)
    assert body["detail"] == "the server made a mistake, which is in its log"
    assert "secret" not in response.text
