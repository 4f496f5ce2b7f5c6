"""Loopback: a server without keys stays at home."""

import shutil
from pathlib import Path

import httpx
import pytest

from serving.api.key_ring import KeyRing
from serving.api.keys import KEYS_FILE, RECOMMEND, new_key
from serving.api.loopback import ExposedError, check_exposure
from serving.server import run
from serving.settings import Settings
from tests.serving.api.test_key_ring import Clock, Counted


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1:80", "localhost:8000", "LOCALHOST", "[::1]:8000", "a.localhost"],
)
def test_names_of_this_machine(http: httpx.Client, host: str) -> None:
    assert http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "0.0.0.0:8000", "10.0.0.1", "[x",
     "evil@127.0.0.1.example", ""],
)  # fmt: skip
def test_names_made_to_point_here(http: httpx.Client, host: str) -> None:
    response = http.get("/healthz", headers={"Host": host})
    assert response.status_code == 421, response.text
    assert "is not this machine, and without API keys nobody else is answered; ask" in response.text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[::2]:80"])
def test_pages_of_other_sites(http: httpx.Client, origin: str) -> None:
    response = http.post("/v1/events", content=b"{}", headers={"Origin": origin})
    assert response.status_code == 421
    assert f"Origin '{origin}' is another site, and without API keys no page" in response.text
    own = http.get("/healthz", headers={"Origin": "http://localhost:8000"})
    assert own.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "shop.example", ""])
def test_without_keys_only_this_machine_is_listened_on(tmp_path: Path, host: str) -> None:
    ring = KeyRing(tmp_path / KEYS_FILE, (), Clock(), Counted())
    message = rf"host '{host}' can be reached from other machines, and there are no API keys; make"
    with pytest.raises(ExposedError, match=message):
        check_exposure(host, ring)
    for loopback in ("127.0.0.1", "::1", "localhost"):
        check_exposure(loopback, ring)
    key, _ = new_key("shop", [RECOMMEND], None)
    check_exposure(host, KeyRing(tmp_path / KEYS_FILE, [key], Clock(), Counted()))


def test_a_server_without_keys_refuses_to_be_exposed(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "copy")
    with pytest.raises(ExposedError, match=r"`cascade keys create NAME .*`, set CASCADE_API_KEYS"):
        run(Settings(data_dir=tmp_path / "copy", host="0.0.0.0", port=0, device="cpu"))
    assert not (tmp_path / "copy" / "valkey").exists()
