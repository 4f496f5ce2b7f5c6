"""The command line as a user meets it: real processes, exit codes, one line an error."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import Commands, main
from serving.state.valkey import StoreError
from tests.serving.world import write_world
from tests.shop import write_config, write_shop
from training.data.dataset import PreparedDataset
from training.data.source import DatasetError

COMMANDS = (
    "aa", "analyze", "benchmark", "bundles", "data", "demo", "evaluate", "experiments", "export",
    "generate", "keys", "loadtest", "plan", "replay", "report", "rolling", "serve", "simulate",
    "train",
)  # fmt: skip


def cascade(*words: str | Path, code: int = 0, **environment: str) -> tuple[str, str]:
    """Run a command; its standard output and error."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, words)],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def output(*words: str | Path) -> str:
    """What a command prints; run in this process, for speed."""
    result = CliRunner(env={"OMP_NUM_THREADS": "1"}).invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*words: str | Path, code: int = 2, **environment: str) -> str:
    """The one line that a command ends with when it fails; run in this process, for speed."""
    result = CliRunner(env={"OMP_NUM_THREADS": "1", **environment}).invoke(
        main, [str(word) for word in words]
    )
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    return line


def test_help_names_every_command_and_every_command_shows_an_example() -> None:
    out, _ = cascade("--help")
    for name in COMMANDS:
        assert f"\n  {name} " in out
        text, _ = cascade(name, "--help")
        assert "\\b" not in text
        assert f"cascade {name} " in text.partition("Example")[2]
    assert set(main.commands) == set(COMMANDS)


def test_data_train_evaluate_export(tmp_path: Path) -> None:
    toml = write_shop(tmp_path / "tables")
    out = output("data", toml, "--data-dir", tmp_path / "var")
    prepared = tmp_path / "var" / "data" / "village-shop" / "prepared"
    assert out.startswith(f"{prepared}: ")
    assert out.endswith("test\n")
    data, run = ("--data", prepared), tmp_path / "runs" / "tiny"
    quick = ("--set", "train_requests=128", "--set", "epochs=1", "--seed", "3")
    out = output("train", write_config(tmp_path, "dftopk"), *data, "--out", run, *quick)
    assert out.startswith(f"{run}: 2 of 2 steps in ")
    assert json.loads((run / "run.json").read_text())["config"]["seed"] == 3
    out = output("evaluate", run, *data, "--limit", "30", "--json")
    found = json.loads(out)
    assert found["requests"] == 30
    assert found["scores"][-1]["name"] == "tiny"
    out = output("evaluate", run, *data, "--limit", "30")
    assert f"{found['scores'][-1]['recall']['value']:.4f} ± " in out
    out = output("export", run, *data, "--out", tmp_path / "bundles" / "tiny")
    assert out.startswith(f"{tmp_path / 'bundles' / 'tiny'}: tiny@")


def test_a_log_from_made_up_files_to_recall(tmp_path: Path) -> None:
    source, var = tmp_path / "source", tmp_path / "var"
    out = output("generate", source, "--requests", "400", "--days", "2", "--short-share", ".2")
    assert out == f"{source}: 400 requests of 2 days\n"
    out = output("data", "recflow", source, "--data-dir", var)
    prepared = var / "data" / "recflow" / "prepared"
    assert "lists shorter than 10: " in out
    assert out.endswith(f"prepared: {prepared}\n")
    runs = [tmp_path / "runs" / f"seed-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        small = ("--seed", str(seed), "--set", "batch_size=64", "--set", "loss.tau=1")
        words = ("--config", "recflow_dftopk", "--data", prepared, "--out", run, *small)
        out = output("train", *words, "--profile")
        assert out.startswith(f"{run}: 4 steps, 200 requests in ")
        assert "forward prerank" in out
    found = json.loads(output("evaluate", *runs, "--json"))
    assert (found["protocol"], len(found["runs"]), len(found["configs"])) == ("strict", 2, 1)
    config = tmp_path / "small.toml"
    config.write_text('kind = "recflow"\nname = "small"\nbatch_size = 64\n')
    out = output("rolling", config, "--data", prepared, "--out", tmp_path / "rolling")
    assert out.startswith("2024-01-14: joint recall 0.")
    assert output("rolling", config, "--data", prepared, "--out", tmp_path / "rolling") == out
    paper = refusal("evaluate", *runs, "--protocol", "paper")
    assert "200" in paper
    assert "1024" in paper
    assert "--split test is not for runs of this kind" in refusal(
        "evaluate", *runs, "--split", "test"
    )


def test_wrong_input_is_one_line_and_code_2(
    shop: PreparedDataset, tmp_path: Path, shop_runs: dict[str, Path]
) -> None:
    data = ("--data", shop.path)
    config = write_config(tmp_path, "baseline")
    new = ("--out", tmp_path / "new")
    for words, message in (
        (("data", tmp_path / "no.toml"), "no.toml does not exist; write one as"),
        (("train", "basline", *data), "no configuration 'basline'; known are ['baseline', 'con"),
        (("train", config, "--data", tmp_path), "holds no prepared dataset; make one with `casc"),
        (("train", config, *data, *new, "--set", "epoch=2"), "did you mean epochs?"),
        (("train", config, *data, *new, "--set", "epochs=0"), "epochs = '0': "),
        (("train", config, *data, "--out", shop_runs["dftopk"]), "is not empty; add --resume to"),
        (("evaluate", tmp_path / "run", *data), "run holds no run.json; make a run with"),
        (("export", tmp_path / "run", *data), "run holds no run.json; make a run with"),
        (("export", shop_runs["dftopk"], *data, "--out", tmp_path), "exists and is no bundle; c"),
        (("report", "x", "--data-dir", tmp_path), "experiments.toml does not exist; write one, or"),
        (("serve", "--data-dir", tmp_path), "experiments.toml does not exist; write one, or"),
        (("serve", "--device", "cuda", "--data-dir", tmp_path), "device 'cuda' needs a GPU that"),
    ):
        assert message in refusal(*words), words
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data", "complete-jurney"), "'complete-jurney' is none of 'complete-journey', 'recflow'"),
        (("train", "dftopk", "--set", "seed"), "'seed' must be KEY=VALUE"),
        (("train", "dftopk", "--resume", "--overwrite"), "--resume and --overwrite exclude each"),
        (("train",), "give one CONFIG, as an argument or with --config"),
        (("train", "dftopk", "--config", "baseline"), "give one CONFIG, as an argument or with"),
        (("train", "dftopk", "--profile"), "--profile is for configurations with kind = 'recflow'"),
        (("data", "recflow"), "recflow needs FOLDER, which holds all_stage, request_id_dict and t"),
        (("data", "complete-journey", "more"), "more is one word too many: only recflow takes a"),
        (("evaluate", "run", "--protocol", "paper"), "--protocol paper is not for runs of this ki"),
        (("evaluate", "--limit", "0"), "0 is not in the range x>=1"),
        (("serve", "--port", "70000"), "70000 is not in the range 0<=x<=65535"),
        (("nothing",), "No such command 'nothing'"),
    ],
)
def test_wrong_usage_is_code_2(words: tuple[str, ...], message: str) -> None:
    assert message in refusal(*words)


def test_wrong_environment_is_named() -> None:
    assert "CASCADE_PORT = 'http': " in refusal("serve", CASCADE_PORT="http")


def test_failures_are_code_1(tmp_path: Path) -> None:
    write_world(tmp_path / "var")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refusal("serve", "--data-dir", tmp_path / "var", "--port", str(port), code=1)
        assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in line
    (tmp_path / "file").touch()
    toml = write_shop(tmp_path / "tables")
    line = refusal("data", toml, "--data-dir", tmp_path / "file", code=1)
    assert "Not a directory" in line or "File exists" in line


def test_report_of_an_experiment_without_traffic(tmp_path: Path) -> None:
    write_world(tmp_path)
    line = refusal("report", "other", "--data-dir", tmp_path)
    assert "no experiment 'other'; known are ['dftopk-vs-baseline']" in line
    _, error = cascade("report", "dftopk-vs-baseline", "--data-dir", tmp_path, code=2)
    assert error.startswith("Error: ")
    assert not (tmp_path / "valkey").exists()
    assert not (tmp_path / "reports").exists()


def test_verbose_shows_the_traceback_and_still_the_line(tmp_path: Path) -> None:
    _, error = cascade("-v", "evaluate", "--data", tmp_path, code=2)
    assert "Traceback" in error
    assert error.splitlines()[-1].startswith(f"Error: {tmp_path} holds no prepared dataset")


def test_replay_passes_on_the_exit_code(shop: PreparedDataset) -> None:
    url = ("--url", "http://127.0.0.1:9")
    _, error = cascade("replay", "--data", shop.path, *url, code=2)
    assert "error: no server is ready at http://127.0.0.1:9" in error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DatasetError("bad table"), 2, "Error: bad table"),
        (StoreError("no store"), 1, "Error: no store"),
        (
            FileNotFoundError(2, "No such file", "x.csv"),
            1,
            "Error: [Errno 2] No such file: 'x.csv'",
        ),
        (RuntimeError("a mistake of ours"), 1, None),
        (OSError("a mistake of ours"), 1, None),
    ],
)
def test_only_expected_errors_lose_their_traceback(
    error: Exception, code: int, line: str | None
) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code
    if line is None:
        assert result.exception is error
    else:
        assert result.stderr == f"{line}\n"
