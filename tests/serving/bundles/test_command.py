"""`cascade bundles` against a real server."""

import json

import httpx
import pytest
from click.testing import CliRunner

from cli import main
from tests.serving.bundles.answers import BASELINE, UPSIDE_DOWN, answer, wait_until
from tests.serving.world import ServerProcess, free_port


def bundles(url: str, *words: str, code: int = 0) -> str:
    """What `cascade bundles` prints, or the line it fails with."""
    result = CliRunner().invoke(main, ["bundles", *words, "--url", url])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr.splitlines()[-1]


def test_list_activate_and_go_back(http: httpx.Client, server: ServerProcess) -> None:
    out = bundles(server.url, "activate", "baseline", "--source", "upside-down")
    assert out.startswith("baseline: upside-down@1 answers after ")
    assert out.endswith("back to baseline@1: --source baseline\n")
    assert answer(http) == UPSIDE_DOWN
    out = bundles(server.url, "list")
    assert out.startswith("baseline: upside-down@1 from upside-down, since 20")
    assert out.endswith("folders: baseline, damaged, dftopk, scoreless, upside-down\n")
    assert json.loads(bundles(server.url, "list", "--json"))["held"] >= 1
    bundles(server.url, "activate", "baseline")
    assert answer(http) == BASELINE


def test_shadow(http: httpx.Client, server: ServerProcess) -> None:
    begin = ("shadow", "baseline", "--source", "upside-down", "--share", "1")
    out = bundles(server.url, *begin)
    assert out.startswith("upside-down@1 in the shadow of baseline: 1 of its requests since 20")
    assert out.endswith("compared 0, failed 0, dropped 0\n")
    answer(http, num=10)
    wait_until(lambda: "compared 1" in bundles(server.url, "shadow", "baseline"))
    out = bundles(server.url, "shadow", "baseline")
    assert "same items 100.0%, same first item 0.0%, rank correlation -1.000" in out
    assert "candidate: p50 " in out
    assert "  in the shadow: upside-down" in bundles(server.url, "list")
    found = json.loads(bundles(server.url, "shadow", "baseline", "--end", "--json"))
    assert found["compared"] == 1
    assert "no candidate is tried" in bundles(server.url, "shadow", "baseline", code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("activate", "baseline", "--source", "nowhere"), "Error: there is no folder 'nowhere' i"),
        (("activate", "a/b"), "Error: there is nothing at /v1/bundles/"),
        (("shadow", "baseline", "--share", "0.5"), "give --source and --share to begin, --end t"),
        (("shadow", "baseline", "--source", "x", "--share", "0"), "0.0 is not in the range 0<x<=1"),
    ],
)
def test_wrong_input_is_code_2(
    http: httpx.Client, server: ServerProcess, words: tuple[str, ...], message: str
) -> None:
    assert message in bundles(server.url, *words, code=2)
    assert answer(http) == BASELINE


def test_no_server_is_code_1() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert f"Error: no server answers at {url} (" in bundles(url, "list", code=1)
    assert "must begin with http:// or https://" in bundles("localhost", "list", code=2)
