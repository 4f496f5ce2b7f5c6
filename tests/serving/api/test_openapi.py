"""The OpenAPI document, taken at its word: schemathesis asks a real server whatever it allows."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.api.keys import ADMIN, KEYS_FILE, new_key, write_keys
from tests.serving.world import ServerProcess

EXAMPLES = 3
"""For each route, beside the edges of every field."""

# What these bodies name must be on the disk or in the experiments, of which the document knows
# nothing.
CONFIG = """
[[operations]]
include-path-regex = "/v1/bundles/.*/(activate|shadow)"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-method = "PUT"
include-path = "/v1/experiments"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "/v1/experiments/.*/(start|aa|ramp|pause|kill|ship)"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def secured(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, str]]:
    data_dir = tmp_path_factory.mktemp("secured") / "world"
    shutil.copytree(world, data_dir)
    key, token = new_key("tester", [ADMIN], None)
    write_keys(data_dir / KEYS_FILE, [key])
    process = ServerProcess(data_dir)
    process.start()
    yield process, token
    assert process.stop() == 0, process.log_path.read_text()


def test_schemathesis_finds_nothing(secured: tuple[ServerProcess, str], tmp_path: Path) -> None:
    server, token = secured
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [
        Path(sys.executable).parent / "st",
        *("--config-file", config, "run", f"{server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token}"),
        *("--phases", "coverage,fuzzing", "--max-examples", EXAMPLES),
        *("--seed", 0, "--generation-deterministic"),
        *("--no-color", "--warnings", "off"),
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None, done.stdout
    assert int(tested[1]) == sum(map(len, document(server)["paths"].values()))
    assert '"level": "error"' not in server.log_path.read_text()


def document(server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/openapi.json").raise_for_status().json()
    return found


def test_the_document_names_the_scope_of_every_route(secured: tuple[ServerProcess, str]) -> None:
    paths = document(secured[0])["paths"]
    needed = {
        f"{method.upper()} {path}": operation.get("security")
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert needed["POST /v1/recommend"] == [{"api_key": ["recommend"]}]
    assert needed["PUT /v1/users/{user_id}"] == [{"api_key": ["events"]}]
    assert needed["GET /v1/experiments"] == [{"api_key": ["experiments"]}]
    assert needed["GET /v1/events/recent"] == [{"api_key": ["admin"]}]
    assert needed["GET /healthz"] is None
    answers = paths["/v1/recommend"]["post"]["responses"]
    assert {"200", "401", "403", "413", "422", "429", "503"} <= set(answers)
    assert "421" not in answers


def test_the_document_of_a_local_server_asks_for_no_key(http: httpx.Client) -> None:
    found = http.get("/openapi.json").json()
    recommend = found["paths"]["/v1/recommend"]["post"]
    assert "securitySchemes" not in found["components"]
    assert "security" not in recommend
    assert "421" in recommend["responses"]


def test_the_page_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded == [
        "data:,",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
        "/docs/page.js",
    ]
    for path in loaded[1:]:
        assert http.get(path).status_code == 200
    assert b"SwaggerUIBundle=" in http.get("/docs/swagger-ui-bundle.js").content
    assert http.get("/docs/page.js").text.startswith("SwaggerUIBundle(")
    assert http.get("/docs/redoc.standalone.js").status_code == 404
