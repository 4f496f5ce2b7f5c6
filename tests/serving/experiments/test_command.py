"""`cascade experiments` against a real server."""

import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from abtest.split.config import parse_config
from abtest.split.experiment import State
from abtest.split.toml import to_toml
from cli import main
from tests.serving.experiments.configs import EVERYBODY, config, in_force, put
from tests.serving.world import ServerProcess, free_port


def experiments(url: str, *words: str | Path, code: int = 0, answer: str | None = None) -> str:
    """What `cascade experiments` prints, or the line it fails with."""
    given = ["experiments", *map(str, words), *(("--url", url) if url else ())]
    result = CliRunner().invoke(main, given, input=answer)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr.splitlines()[-1]


def test_apply_ramp_and_ship(http: httpx.Client, server: ServerProcess, tmp_path: Path) -> None:
    file, url = tmp_path / "experiments.toml", server.url
    file.write_text(to_toml(config()))
    assert experiments("", "check", file) == f"{file} is right: 1 experiments, 0 holdouts\n"
    before = in_force(http)
    shown = experiments(url, "apply", file, "--dry-run")
    assert shown.startswith('defaults.interleave_with: none -> ""\ndomains.all: none -> {"name"')
    assert "\nof 10000 made-up users " in shown
    assert in_force(http) == before
    experiments(url, "apply", file, code=1, answer="n\n")
    assert in_force(http) == before
    done = experiments(url, "apply", file, "--note", "a try", answer="y\n")
    assert done.endswith(f"revision {before['revision'] + 1} is in force\n")
    assert parse_config(experiments(url, "show", "--toml")) == config()
    assert "ranker" in experiments(url, "show")
    done = experiments(url, "ramp", "ranker", "0.25", "--note", "more")
    assert "layers.model.experiments.ranker.slots: [[0, 1000]] -> [[0, 2500]]" in done
    assert "│ model" in done
    assert json.loads(experiments(url, "show", "--json"))["note"] == "more"
    for action in ("pause", "start"):
        experiments(url, action, "ranker")
    experiments(url, "ship", "ranker", "new", "--yes")
    assert "shipped: new" in experiments(url, "show")
    experiments(url, "kill", "ranker", answer="y\n")
    now = in_force(http)["revision"]
    trail = experiments(url, "audit", "--limit", "6")
    assert trail.startswith(f"revision {now} of 127.0.0.1, 20")
    assert '  layers.model.experiments.ranker.state: "shipped" -> "killed"\n' in trail
    assert "\n  a try\n" in trail
    assert len(json.loads(experiments(url, "audit", "--json", "--limit", "2"))["changes"]) == 2
    older = experiments(url, "show", "--revision", str(now - 1))
    assert parse_config(older).experiment("ranker").state == State.SHIPPED


def test_aa(http: httpx.Client, server: ServerProcess) -> None:
    put(http, config(state="draft")).raise_for_status()
    assert '"draft" -> "aa"' in experiments(server.url, "aa", "ranker")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("start", "nobody"), "Error: there is no experiment 'nobody', there are []"),
        (("ramp", "ranker", "1.5"), "1.5 is not in the range 0<x<=1."),
        (
            ("apply", "gone.toml"),
            "Error: gone.toml does not exist; write one, or run `cascade demo`",
        ),
        (
            ("show", "--revision", "9999"),
            "Error: there is no version of revision 9999; the newest ",
        ),
    ],
)
@pytest.mark.usefixtures("http")
def test_wrong_input_is_code_2(server: ServerProcess, words: tuple[str, ...], message: str) -> None:
    assert message in experiments(server.url, *words, code=2)


def test_a_wrong_file_is_told_of_without_a_server(tmp_path: Path) -> None:
    file = tmp_path / "experiments.toml"
    file.write_text(EVERYBODY + "speed = 3\n")
    assert "parameter speed is unknown; known are [" in experiments("", "check", file, code=2)
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert f"Error: no server answers at {nowhere} (" in experiments(nowhere, "show", code=1)
