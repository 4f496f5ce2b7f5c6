"""Demo: the commands of `cascade`, one after the other, on a grocer's purchases."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from serving.bundles.start import experiments_memory
from serving.settings import Settings
from serving.state.valkey import EmbeddedValkey
from training.data.complete_journey import PACKAGE
from training.data.dataset import PreparedDataset
from training.data.source import DatasetError

EXPERIMENT = "dftopk-vs-baseline"
ARMS = ("baseline", "dftopk")
STEPS = 7
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

Command = Callable[..., None]
"""Runs `cascade` with the given words."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message names reason and remedy."""


class Size(NamedTuple):
    """How much the demo takes of everything."""

    train: tuple[str, ...]
    """Options of `cascade train`."""
    evaluate: tuple[str, ...]
    replay: tuple[str, ...]


FULL = Size(train=(), evaluate=(), replay=())
QUICK = Size(
    train=("--set", "train_requests=5000", "--set", "evaluations=1",
           "--set", "validation_requests=500"),
    evaluate=("--limit", "1000"),
    replay=("--limit", "1200"),
)  # fmt: skip


def run_demo(cascade: Command, data_dir: Path, size: Size, seed: int) -> None:
    """Run every step and leave bundles, experiment, events and report under `data_dir`.

    Raises:
        DemoError: a server uses the data directory, or the demo's own server does not run.
    """
    started = time.monotonic()
    _forget_events(data_dir)
    say = _Steps(cascade)
    prepared = data_dir / "data" / "complete-journey" / "prepared"
    data = ("--data", prepared)

    say.step("Data", "A year of a grocer's purchases. A request is a shopping trip; the truth is")
    say.more("what was bought and for how much. The last 28 days are the test period.")
    _prepare(say, data_dir, prepared)

    say.step("Training", "Two cascades of the same models on the same data: in `baseline` each")
    say.more("stage is trained alone, in `dftopk` both as one network, through DFTopK.")
    runs = [data_dir / "runs" / arm for arm in ARMS]
    for arm, run in zip(ARMS, runs, strict=True):
        options = ("--seed", str(seed), *size.train, "--overwrite")
        say.run("train", arm, *data, "--out", run, *options)

    say.step("Evaluation", "Twenty items a trip of the test period, beside what needs no model.")
    say.run("evaluate", *runs, *data, *size.evaluate)

    say.step("Export", "Each cascade becomes a bundle: TorchScript, embeddings, index, checksums.")
    for arm, run in zip(ARMS, runs, strict=True):
        say.run("export", run, *data, "--out", data_dir / "bundles" / arm)

    say.step("Serving", "Half of the households get the one cascade, half the other, by a hash of")
    say.more("their id. Every answer is in the event log before it leaves.")
    config = files("abtest").joinpath(f"configs/{EXPERIMENT}.toml").read_text(encoding="utf-8")
    (data_dir / "experiments.toml").write_text(config, encoding="utf-8")
    with serve(data_dir) as url:
        say.more(f"Ready at {url}, log in {data_dir / 'server.log'}.")

        say.step("Traffic", "Trips of the test period over HTTP, in time order. What was bought")
        say.more("among the recommended items is reported back as revenue.")
        summary = data_dir / "replay.json"
        say.run("replay", *data, "--url", url, *size.replay, "--json", summary)

    say.step("Report", "What to do with the experiment, and why, from the event log alone.")
    say.run("report", EXPERIMENT, "--data-dir", data_dir)
    _say_what_now(say.console, data_dir, time.monotonic() - started)


class _Steps:
    """Tells each step in plain words, and which command it is."""

    def __init__(self, cascade: Command) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._cascade = cascade
        self._number = 0

    def step(self, name: str, words: str) -> None:
        self._number += 1
        self.console.print(f"\n[bold]{self._number}/{STEPS} {name}[/bold]\n{words}")

    def more(self, words: str) -> None:
        self.console.print(words)

    def run(self, *words: str | Path) -> None:
        line = " ".join(str(word) for word in words)
        self.console.print(f"[dim]$ cascade {line}[/dim]")
        self._cascade(*words)


def _prepare(say: _Steps, data_dir: Path, prepared: Path) -> None:
    """Prepare the data, unless it was prepared from the same package before."""
    made = data_dir / "data" / "complete-journey" / "prepared-from.txt"
    source = f"{PACKAGE} {version(PACKAGE)}\n"
    if made.is_file() and made.read_text() == source and _opens(prepared):
        say.more(f"Prepared before, in {prepared}.")
        return
    made.unlink(missing_ok=True)
    say.run("data", "complete-journey", "--data-dir", data_dir)
    made.write_text(source)


def _opens(prepared: Path) -> bool:
    try:
        PreparedDataset(prepared)
    except DatasetError:  # missing, or of another release: it is made anew
        return False
    return True


def _forget_events(data_dir: Path) -> None:
    """Remove the events and reports of an earlier demo, and what was chosen and changed since.

    Raises:
        DemoError: a server uses them, or the demo is told to use a store that is not its own.
    """
    if "CASCADE_REDIS_URL" in os.environ:
        raise DemoError("the demo starts with an empty store of its own; unset CASCADE_REDIS_URL")
    left = Settings(data_dir=data_dir)
    folder = left.valkey_dir
    if folder.is_dir():
        valkey = EmbeddedValkey(folder)
        owned = valkey.owned
        valkey.close()
        if not owned:
            raise DemoError(
                f"a server is running on {data_dir}; stop it first, or choose another --data-dir"
            )
        shutil.rmtree(folder)
    shutil.rmtree(left.events_dir, ignore_errors=True)
    shutil.rmtree(left.journal_dir, ignore_errors=True)
    shutil.rmtree(left.rollups_dir, ignore_errors=True)
    shutil.rmtree(left.reports_dir, ignore_errors=True)
    left.choices_path.unlink(missing_ok=True)
    experiments_memory(left.experiments_path).unlink(missing_ok=True)


@contextmanager
def serve(data_dir: Path) -> Iterator[str]:
    """A server process on a data directory, stopped at the end of the block.

    Yields:
        Its URL.

    Raises:
        DemoError: it does not get ready, or does not end well.
    """
    default = signal.signal(signal.SIGTERM, _exit)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = data_dir / "server.log"
    command = [sys.executable, "-m", "cli", "serve", "--data-dir", str(data_dir)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        signal.signal(signal.SIGTERM, default)
    if code != 0:
        raise DemoError(f"the server ended with code {code}: {_last_line(log)}; see {log}")


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the server did not start: {_last_line(log)}; see {log}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise DemoError(f"the server is not ready after {READY_TIMEOUT_S:.0f} s; see {log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _exit(number: int, _: object) -> None:
    """Leave through every `finally`, so that no process stays behind."""
    sys.exit(128 + number)


def _say_what_now(console: Console, data_dir: Path, seconds: float) -> None:
    minutes, rest = divmod(round(seconds), 60)
    console.print(
        f"\n[bold]Done in {minutes} min {rest} s.[/bold] What now:\n"
        f"  open {data_dir / 'reports' / EXPERIMENT}.html\n"
        f"  cascade serve --data-dir {data_dir} --port 8000"
    )
