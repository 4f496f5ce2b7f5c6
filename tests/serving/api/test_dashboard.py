"""The files of the dashboard over HTTP, and the two routes made for it."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.api.dashboard import PAGE, POLICY, read_files
from serving.api.keys import ADMIN, EXPERIMENTS, KEYS_FILE, RECOMMEND, new_key, write_keys
from tests.serving.patience import body
from tests.serving.world import ServerProcess

FOLDER = Path(__file__).parents[3] / "abtest" / "dashboard"
KEY = "dftopk-vs-baseline"


def files_of(http: httpx.Client) -> list[str]:
    return re.findall(r'(?:src|href)="(/dashboard/[^"]+)"', http.get("/").text)


def test_page_is_asked_for_anew_and_its_files_are_kept_for_good(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["x-frame-options"] == "DENY"
    known = {"if-none-match": f'"other", {page.headers["etag"]}'}
    again = http.get("/", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == POLICY
    assert http.get("/", headers={"if-none-match": '"other"'}).status_code == 200
    loaded = files_of(http)
    assert len(loaded) >= 4
    for path in loaded:
        asset = http.get(path)
        assert asset.status_code == 200, path
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert http.get(path, headers={"if-none-match": asset.headers["etag"]}).status_code == 304


def test_nothing_is_allowed_inline_or_from_elsewhere() -> None:
    assert "unsafe" not in POLICY
    assert "//" not in POLICY
    page = (FOLDER / PAGE).read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page)
    for path in FOLDER.iterdir():
        text = path.read_text()
        outside = set(re.findall(r"https?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not outside, path
        if path.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", text), path


def test_every_module_that_is_imported_is_there_and_all_is_small(http: httpx.Client) -> None:
    held = {path.name: path.read_text() for path in FOLDER.iterdir()}
    for name, text in held.items():
        for wanted in re.findall(r'from "\./([^"]+)"', text):
            assert wanted in held, f"{name} imports {wanted}"
    assert sum(len(text.encode()) for text in held.values()) < 100_000
    script = next(path for path in files_of(http) if path.endswith("app.js"))
    assert http.get(script).headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["/dashboard/0/app.js", "VERSION/none.js", "VERSION/index.html"])
def test_other_versions_and_files_are_not_there(http: httpx.Client, path: str) -> None:
    version = files_of(http)[0].rsplit("/", 1)[0]
    assert http.get(path.replace("VERSION", version)).status_code == 404


def test_any_changed_file_changes_the_version(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text('<script src="dashboard/a.js"></script>')
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "notes.txt").write_text("not served")
    one = read_files(tmp_path)
    assert one.page.decode() == f'<script src="/dashboard/{one.version}/a.js"></script>'
    assert set(one.assets) == {"a.js"}
    (tmp_path / "a.js").write_text("2")
    assert read_files(tmp_path).version != one.version


def recommend(http: httpx.Client, user: str) -> dict[str, Any]:
    found: dict[str, Any] = http.post("/v1/recommend", json={"user_id": user, "num": 3}).json()
    return found


def recent(http: httpx.Client, key: str = KEY, **query: int) -> list[dict[str, Any]]:
    asked: dict[str, str | int] = {"experiment": key, **query}
    found = body(lambda: http.get("/v1/events/recent", params=asked))
    events: list[dict[str, Any]] = found["events"]
    return events


def test_recent_events_are_newest_first_and_of_the_experiment_only(http: httpx.Client) -> None:
    answer = recommend(http, "feed-1")
    item = answer["items"][1]
    money = {"revenue_micros": 1_990_000, "currency": "EUR"}
    event = {
        "type": "conversion", "request_id": answer["request_id"], "item_id": item["item_id"],
        "event_ts": "2026-03-01T12:00:00Z", **money,
    }  # fmt: skip
    http.post("/v1/events", json={"events": [event]})
    deadline = time.monotonic() + 10
    while len(found := [e for e in recent(http) if e["unit"] == "feed-1"]) < 2:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)  # the log hands over to the store
    bought, answered = found
    (given,) = answer["experiments"]
    assert bought["type"] == "conversion"
    assert {name: bought[name] for name in money} == money
    assert (bought["item_id"], bought["position"]) == (item["item_id"], 1)
    assert answered["type"] == "ranking"
    assert answered["items"] == 3
    assert answered["latency_us"] > 0
    assert answered["variant"] == bought["variant"] == given["variant"]
    assert answered["request_id"] == answer["request_id"]
    assert recent(http, "another") == []
    assert len(recent(http, limit=1)) == 1


@pytest.mark.parametrize(
    "query", ["", "experiment=", "experiment=a&limit=0", "experiment=a&limit=201"]
)
def test_what_is_asked_for_is_bounded(http: httpx.Client, query: str) -> None:
    assert http.get(f"/v1/events/recent?{query}").status_code == 422


def test_caller_of_a_local_server_may_everything(http: httpx.Client) -> None:
    assert http.get("/v1/caller").json() == {
        "name": "127.0.0.1", "scopes": ["admin"], "secured": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def secured(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    data_dir = tmp_path_factory.mktemp("secured") / "world"
    shutil.copytree(world, data_dir)
    made = {scope: new_key(scope, [scope], None) for scope in (RECOMMEND, EXPERIMENTS, ADMIN)}
    write_keys(data_dir / KEYS_FILE, [key for key, _ in made.values()])
    server = ServerProcess(data_dir)
    server.start()
    yield server, {scope: token for scope, (_, token) in made.items()}
    assert server.stop() == 0, server.log_path.read_text()


def test_page_is_open_and_what_it_shows_is_not(
    secured: tuple[ServerProcess, dict[str, str]],
) -> None:
    server, tokens = secured
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/").status_code == 200
        assert http.get(files_of(http)[0]).status_code == 200
        assert http.post("/").status_code == 401
        # `/` ends in a slash like the paths with all below them; it must not open everything.
        for path in ("/v1/experiments", "/v1/caller", "/v1/events/recent", "/metrics", "/nowhere"):
            assert http.get(path).status_code == 401, path

        def status(scope: str, method: str, path: str) -> int:
            sent = {"Authorization": f"Bearer {tokens[scope]}"}
            return http.request(method, path, headers=sent, json={}).status_code

        told = http.get("/v1/caller", headers={"Authorization": f"Bearer {tokens[EXPERIMENTS]}"})
        assert told.json() == {"name": "experiments", "scopes": ["experiments"], "secured": True}
        feed = f"/v1/events/recent?experiment={KEY}"
        assert status(RECOMMEND, "GET", "/v1/caller") == 403
        assert status(EXPERIMENTS, "GET", "/v1/experiments") == 200
        assert status(EXPERIMENTS, "GET", feed) == 403
        assert status(EXPERIMENTS, "PUT", "/v1/experiments") == 403
        assert status(EXPERIMENTS, "POST", f"/v1/experiments/{KEY}/kill") == 403
        assert status(ADMIN, "GET", feed) == 200
        assert status(ADMIN, "POST", f"/v1/experiments/{KEY}/kill") == 422
