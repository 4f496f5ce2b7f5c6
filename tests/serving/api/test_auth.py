"""Auth: the table of scopes, keys over HTTP, and rates."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from serving.api.auth import (
    CALLER,
    Caller,
    ForbiddenError,
    Guard,
    needed_scope,
    require,
)
from serving.api.key_ring import KeyRing
from serving.api.keys import (
    EVENTS,
    EXPLAIN,
    KEYS_FILE,
    METRICS,
    RECOMMEND,
    as_variable,
    new_key,
    read_keys,
    write_keys,
)
from serving.api.rate_limit import RateLimiter
from tests.serving.api.test_key_ring import Clock, Counted
from tests.serving.world import ServerProcess


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/recommend", "recommend"),
        ("POST", "/v1/recommend/batch", "recommend"),
        ("POST", "/v1/events", "events"),
        ("PUT", "/v1/users/u", "events"),
        ("POST", "/v1/users/u/interactions", "events"),
        ("DELETE", "/v1/users/u", "admin"),
        ("PUT", "/v1/items", "admin"),
        ("GET", "/v1/experiments", "experiments"),
        ("GET", "/v1/experiments/e/report", "experiments"),
        ("PUT", "/v1/experiments", "admin"),
        ("POST", "/v1/experiments/e/ship", "admin"),
        ("GET", "/v1/events/recent", "admin"),
        ("GET", "/v1/caller", "experiments"),
        ("GET", "/", ""),
        ("POST", "/", "admin"),
        ("GET", "/dashboard/0/app.js", ""),
        ("GET", "/dashboards", "admin"),
        ("POST", "/v1/bundles/b/activate", "admin"),
        ("GET", "/v1/recommend", "admin"),
        ("POST", "/v1/recommended", "admin"),
        ("POST", "/V1/RECOMMEND", "admin"),
        ("POST", "//v1/recommend", "admin"),
        ("GET", "/metrics", "metrics"),
        ("GET", "/healthz", ""),
        ("HEAD", "/readyz", ""),
        ("GET", "/healthz/", "admin"),
        ("GET", "/docs/page.js", ""),
        ("GET", "/a-route-nobody-thought-of", "admin"),
    ],
)
def test_what_needs_which_scope(method: str, path: str, scope: str) -> None:
    assert needed_scope(method, path) == scope


def test_admin_includes_every_scope_and_others_only_themselves() -> None:
    admin, shop = Caller("a", frozenset({"admin"}), None), Caller("s", frozenset({RECOMMEND}), None)
    assert all(admin.may(scope) for scope in (RECOMMEND, EVENTS, EXPLAIN, METRICS, "admin"))
    assert [s for s in (RECOMMEND, EVENTS, EXPLAIN, METRICS, "admin") if shop.may(s)] == [RECOMMEND]


def test_what_the_body_asks_for_is_checked_too() -> None:
    state: dict[str, Any] = {"state": {CALLER: Caller("shop", frozenset({RECOMMEND}), None)}}
    require(state, RECOMMEND)
    message = "key 'shop' has no scope 'explain'; leave out what needs it, or use a key that has it"
    with pytest.raises(ForbiddenError, match=message):
        require(state, EXPLAIN)


class Secured(NamedTuple):
    server: ServerProcess
    tokens: dict[str, str]

    def ask(self, name: str | None, method: str, path: str, json: object = None) -> httpx.Response:
        headers = {} if name is None else {"Authorization": f"Bearer {self.tokens[name]}"}
        return httpx.request(method, self.server.url + path, headers=headers, json=json)


@pytest.fixture(scope="module")
def secured(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    data_dir = tmp_path_factory.mktemp("secured") / "world"
    shutil.copytree(world, data_dir)
    made = {
        "shop": new_key("shop", [RECOMMEND], None),
        "tracker": new_key("tracker", [EVENTS], None),
        "scraper": new_key("scraper", [METRICS], None),
        "slow": new_key("slow", [RECOMMEND], 0.1),
        "five": new_key("five", [RECOMMEND], 5.0),
        "curious": new_key("curious", [RECOMMEND, EXPLAIN], None),
        "operator": new_key("operator", ["admin"], None),
    }
    keys = {name: key for name, (key, _) in made.items()}
    fixed = as_variable(keys.pop("operator"))
    write_keys(data_dir / KEYS_FILE, keys.values())
    server = ServerProcess(data_dir, api_keys=fixed)
    server.start()
    yield Secured(server, {name: token for name, (_, token) in made.items()})
    assert server.stop() == 0, server.log_path.read_text()
    log = server.log_path.read_text()
    assert not [name for name, (_, token) in made.items() if token in log]


RECOMMENDATION = ("POST", "/v1/recommend")
BODY: dict[str, Any] = {"json": {"user_id": "u", "num": 1}}


def test_without_a_key_only_health_and_documents_are_open(secured: Secured) -> None:
    response = secured.ask(None, *RECOMMENDATION, **BODY)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["detail"] == "an API key is needed; send `Authorization: Bearer KEY`"
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert secured.ask(None, "GET", path).status_code == 200
    for path in ("/metrics", "/v1/experiments", "/nowhere"):
        assert secured.ask(None, "GET", path).status_code == 401


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            "Bearer cascade_wrong",
            "the API key is not in force; make one with `cascade keys create`",
        ),
        ("bearer x", "the API key is not in force; make one with `cascade keys create`"),
        ("Basic dTpw", "Authorization is of kind 'Basic'; send `Bearer KEY`"),
        ("Bearer \xff\xfe", "the API key is not in force; make one with `cascade keys create`"),
    ],
)
def test_wrong_keys(secured: Secured, header: str, reason: str) -> None:
    headers = {b"Authorization": header.encode("latin-1")}
    response = httpx.post(f"{secured.server.url}/v1/recommend", headers=headers, **BODY)
    assert (response.status_code, response.json()["detail"]) == (401, reason)


def test_scopes(secured: Secured) -> None:
    assert secured.ask("shop", *RECOMMENDATION, **BODY).status_code == 200
    assert secured.ask("operator", *RECOMMENDATION, **BODY).status_code == 200
    assert secured.ask("scraper", "GET", "/metrics").status_code == 200
    assert secured.ask("tracker", "PUT", "/v1/users/u", json={}).status_code == 204
    refused = secured.ask("tracker", *RECOMMENDATION, **BODY)
    assert refused.status_code == 403
    assert refused.json()["detail"] == (
        "POST /v1/recommend needs scope 'recommend', and key 'tracker' has events; "
        "use a key that has it"
    )
    assert secured.ask("shop", "GET", "/v1/experiments").status_code == 403
    assert secured.ask("shop", "POST", "/v1/events", json={}).status_code == 403
    counted = secured.ask("operator", "GET", "/metrics").text
    assert 'cascade_refused_requests_total{reason="forbidden"}' in counted


def test_a_key_s_rate(secured: Secured) -> None:
    assert secured.ask("slow", *RECOMMENDATION, **BODY).status_code == 200
    refused = secured.ask("slow", *RECOMMENDATION, **BODY)
    assert refused.status_code == 429
    assert 8 <= int(refused.headers["retry-after"]) <= 10
    assert refused.json()["detail"].startswith("slow is good for 0.1 requests a second; try")
    assert secured.ask("shop", *RECOMMENDATION, **BODY).status_code == 200


def test_a_batch_costs_as_many_as_are_in_it(secured: Secured) -> None:
    path, body = "/v1/recommend/batch", {"requests": [BODY["json"]] * 50}
    assert secured.ask("five", "POST", path, json=body).status_code == 200
    refused = secured.ask("five", "POST", path, json=body)
    assert refused.status_code == 429
    assert 7 <= int(refused.headers["retry-after"]) <= 10


def test_explanations_need_a_scope_of_their_own(secured: Secured) -> None:
    asked = {"user_id": "u", "num": 1, "explain": True}
    for path, body in (("/v1/recommend", asked), ("/v1/recommend/batch", {"requests": [asked]})):
        refused = secured.ask("shop", "POST", path, json=body)
        assert refused.status_code == 403
        assert refused.json()["detail"].startswith("key 'shop' has no scope 'explain'; leave out")
        assert secured.ask("curious", "POST", path, json=body).status_code == 200


def test_a_revoked_key_is_refused_and_a_new_one_taken_while_it_runs(secured: Secured) -> None:
    path = secured.server.data_dir / KEYS_FILE
    before = read_keys(path)
    newcomer, secured.tokens["newcomer"] = new_key("newcomer", [RECOMMEND], None)
    write_keys(path, [newcomer, *(key for key in before if key.name != "scraper")])
    deadline = time.monotonic() + 10
    while secured.ask("scraper", "GET", "/metrics").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert secured.ask("newcomer", *RECOMMENDATION, **BODY).status_code == 200
    write_keys(path, before)


def test_a_host_header_is_no_matter_where_there_are_keys(secured: Secured) -> None:
    headers = {"Host": "shop.example", "Authorization": f"Bearer {secured.tokens['shop']}"}
    answer = httpx.post(f"{secured.server.url}/v1/recommend", headers=headers, **BODY)
    assert answer.status_code == 200


def test_addresses_have_a_rate_where_there_are_no_keys(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / KEYS_FILE, (), Clock(), Counted())
    guard = Guard(ring, RateLimiter(Clock()), rate_per_s=None, address_rate_per_s=2.0)
    asked: dict[str, Any] = {
        "method": "GET",
        "path": "/v1/experiments",
        "client": ("127.0.0.1", 4321),
        "headers": [(b"host", b"localhost")],
    }
    assert [guard.admit(asked).name for _ in range(2)] == ["127.0.0.1"] * 2
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1 is good for 2 requests a second; try"):
        guard.admit(asked)
    assert guard.admit({**asked, "client": ("127.0.0.2", 4321)}).may("admin")
