"""Load: a server's capacity, its latency against load, and whether it keeps its objectives."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import click

from cli.command import WrongInput, main, path_option

PRESETS = ("smoke", "knee", "spike", "ramp", "soak", "all")
LOCUSTFILE = Path(__file__).parent.parent / "loadtest" / "locustfile.py"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


class NotRun(click.ClickException):
    """A load test that could not begin."""

    exit_code = 2


@main.command()
@click.argument("preset", type=click.Choice(PRESETS), default="smoke")
@click.argument("locust_options", nargs=-1, type=click.UNPROCESSED)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@path_option("--serve", "If nothing answers at --url, serve a copy of this data directory.")
@click.option("--rate", type=float, help="Visits a second.  [default: by the capacity found]")
@click.option("--step-s", type=float, help="Seconds a step.  [default: by the preset]")
@click.option("--users", type=int, help="Of the closed loop.  [default: 16]")
@path_option("--users-from", "User ids, most frequent first: .parquet, or one a line.")
@click.option("--num", type=int, help="Items to ask for.  [default: 20]")
@click.option("--think-s", type=float, help="Mean time before buying.  [default: 0.2]")
@click.option("--within-ms", type=float, help="What counts as in time.  [default: 100]")
@click.option("--deadline-ms", type=int, help="Sent as X-Deadline-Ms with every request.")
@path_option("--slo", "Objectives that decide the exit code, such as loadtest/slo.toml.")
@path_option("--html", "Write the report here.")
@path_option("--json", "Write the results here.  [default: beside --html]")
def loadtest(
    preset: str,
    locust_options: Sequence[str],
    url: str,
    serve: Path | None,
    html: Path | None,
    json: Path | None,
    **options: str | float | Path | None,
) -> None:
    r"""Put load on a server: how much it carries, how fast it is at which rate, how it fails.

    \b
    smoke   a closed loop, then 50 visits a second
    knee    rising rates, until answers no longer come in time: the picture to look at first
    spike   a burst of five times the rate, and how the server recovers
    ramp    a rate that grows past the capacity
    soak    half the capacity for ten minutes
    all     all of them, short: two minutes

    A visit asks for recommendations; three in ten buy an item, and report it. Closed loop means
    users who ask again once they are answered; it finds the capacity. Open loop means visits that
    arrive at a rate, whether or not the server keeps up; latency is counted from when a visit was
    to be sent. Without --rate, rates are shares of the capacity. Refusals (503 with Retry-After)
    and degraded answers are counted apart from failures.

    All of it lands in the server's event log and in the users' histories: point it at a server of
    its own, or let --serve start one on a copy. CASCADE_API_KEY is sent as a bearer token.

    Exit code: 0 objectives met, 1 one missed, 2 the test could not be run. What follows `--` goes
    to Locust, such as --processes, --master and --worker.

    \b
    Examples:
      cascade loadtest smoke --url http://127.0.0.1:8000
      cascade loadtest knee --html knee.html --slo loadtest/slo.toml
      cascade loadtest soak --rate 200 --step-s 3600 -- --processes 4
      cascade loadtest all --serve var --html var/reports/loadtest.html
    """
    options |= {"report_html": html, "report_json": json or (html and html.with_suffix(".json"))}
    options["closed_users"] = options.pop("users")
    words = ["--preset", preset]
    for name, value in options.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    with _server(url.rstrip("/"), serve):
        code = _locust(["--host", url.rstrip("/"), *words, *locust_options])
    if code:
        sys.exit(code)


def _locust(words: Sequence[str]) -> int:
    """Run Locust in a process of its own, as it patches the standard library for gevent."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--only-summary", "--loglevel", "WARNING", *words]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # It was interrupted as well, and ends what it began.
        return process.wait()


@contextmanager
def _server(url: str, data_dir: Path | None) -> Iterator[None]:
    """A server at the address: the one that is there, or one on a copy of the data directory."""
    if data_dir is None or _answers(url):
        if data_dir is not None:
            click.echo(f"a server answers at {url}: the load goes to it and its log", err=True)
        yield
        return
    if not (data_dir / "experiments.toml").is_file():
        raise WrongInput(
            f"{data_dir} cannot be served: it holds no experiments.toml; run `make demo` first, "
            f"or start a server at {url}"
        )
    with TemporaryDirectory(prefix="cascade-") as folder:
        copy = Path(folder) / "data"
        _copy(data_dir, copy)
        log = Path(folder) / "server.log"
        process = _start(url, copy, log)
        try:
            _wait(url, process, log)
            click.echo(f"serving a copy of {data_dir} at {url}", err=True)
            yield
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def _copy(data_dir: Path, target: Path) -> None:
    """What is served: links to the bundles, the configuration, and a copy of the users."""
    (target / "bundles").mkdir(parents=True)
    for bundle in (data_dir / "bundles").iterdir():
        (target / "bundles" / bundle.name).symlink_to(bundle.resolve())
    for path in data_dir.glob("*.toml"):
        shutil.copy(path, target)
    log = data_dir / "valkey" / "appendonlydir"
    if log.is_dir():
        shutil.copytree(log, target / "valkey" / log.name)


def _start(url: str, data_dir: Path, log: Path) -> "subprocess.Popen[bytes]":
    address = urlsplit(url)
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    # The load must not reach a store that others use.
    environment.pop("CASCADE_REDIS_URL", None)
    command = [sys.executable, "-m", "cli", "serve", "--data-dir", str(data_dir)]
    command += ["--host", address.hostname or "127.0.0.1", "--port", str(address.port or 80)]
    with log.open("wb") as out:
        # A session of its own: Ctrl-C ends the test, and the test ends the server.
        return subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace").splitlines() or ["it said nothing"]
            raise NotRun(f"the server does not start: {said[-1]}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    """Whether an HTTP server answers there, ready or not."""
    try:
        with urlopen(f"{url}/readyz", timeout=5):
            return True
    except HTTPError as error:
        error.close()
        return True
    except ValueError as error:
        raise WrongInput(
            f"--url {url!r} is no address; give one such as http://HOST:PORT"
        ) from error
    except OSError:
        return False
