"""Headers: on every response, whatever its kind, and the routes' own stay."""

import httpx
import pytest

from serving.api.headers import PAGE_POLICY, secured
from tests.serving.world import ServerProcess


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/recommend", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/recommend", 405),
        ("POST", "/v1/events", 422),
    ],
)
def test_every_answer_is_locked_down(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path, json={"user_id": "u"})
    assert response.status_code == status
    found = {name: response.headers.get(name) for name in EXPECTED}
    assert found == EXPECTED
    assert len(response.headers["x-request-id"]) == 32
    assert "server" not in response.headers


EXPECTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


def test_a_refusal_and_a_body_over_the_limit_have_them_too(http: httpx.Client) -> None:
    for response in (
        http.get("/healthz", headers={"host": "evil.example"}),
        http.post("/v1/recommend", content=b" " * 1_000_001),
    ):
        assert response.status_code in (421, 413)
        assert {name: response.headers.get(name) for name in EXPECTED} == EXPECTED


def test_pages_may_load_from_here_only(http: httpx.Client) -> None:
    policy = http.get("/docs").headers["content-security-policy"]
    assert policy == PAGE_POLICY.decode()
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    script = http.get("/docs/swagger-ui-bundle.js").headers
    assert script["cache-control"] == "public, max-age=86400"


def test_a_route_s_own_header_stays() -> None:
    mine = [(b"cache-control", b"max-age=60"), (b"content-type", b"text/plain")]
    found = secured(mine)
    assert found[:2] == mine
    assert len(found) == len(dict(found))


def test_two_requests_have_two_ids(http: httpx.Client, server: ServerProcess) -> None:
    ids = {http.get("/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert server.process is not None
