"""Online: serve, replay traffic; and the demo of all of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from cli.command import data_dir_option, data_option, main, path_option, settings


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="What to serve.  [default: var]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 for any.  [default: 8000]")
@click.option("--workers", type=click.IntRange(1, 256), help="About one a core.  [default: 1]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: auto]")
def serve(**options: Any) -> None:  # noqa: ANN401
    r"""Serve the bundles of a data directory over HTTP, as its experiments.toml splits the traffic.

    What is not given is read from CASCADE_DATA_DIR, CASCADE_HOST, CASCADE_PORT,
    CASCADE_WORKERS and CASCADE_DEVICE.
    Without CASCADE_REDIS_URL the server starts a Valkey of its own under the data directory.

    \b
    Examples:
      cascade serve --data-dir var --port 8000
      curl -s localhost:8000/v1/recommend -H 'content-type: application/json' \
        -d '{"user_id": "1", "num": 5}'
    """
    from serving import master
    from serving.bundles.loading import choose_device
    from serving.telemetry import logs

    chosen = settings(**options)
    logs.configure(chosen.log_format)
    try:
        choose_device(chosen.device)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    master.serve(chosen)


@main.command()
@data_option
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first trips.")
@click.option("--users", type=click.IntRange(min=1), help="Concurrent users.  [default: 8]")
@path_option("--json", "Write the summary here instead of printing it.")
def replay(data: Path, url: str, limit: int | None, users: int | None, json: Path | None) -> None:
    r"""Replay the trips of the test period against a server, in time order.

    One recommend call a trip, then the events of what was bought among the recommended items; after
    each trip the household's history is updated, as it would be live.

    \b
    Example:
      cascade replay --url http://127.0.0.1:8000 --limit 1000
    """
    # A process of its own: Locust patches the standard library for gevent.
    command = [sys.executable, "-m", "loadtest.replay", "--folder", data / "replay", "--host", url]
    for option, value in (("--limit-trips", limit), ("--users", users), ("--json", json)):
        command += [] if value is None else [option, value]
    done = subprocess.run([str(word) for word in command], check=False)
    if done.returncode:
        sys.exit(done.returncode)


@main.command()
@click.option("--quick", is_flag=True, help="Less data and traffic: a first look in 90 seconds.")
@data_dir_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def demo(quick: bool, data_dir: Path, seed: int) -> None:
    r"""Run the whole job on a grocer's purchases: train, serve, replay, report.

    Two cascades are trained on the same data, served in a 50/50 experiment, and compared by the
    revenue of replayed shopping trips. Everything is left under the data directory, to be served.

    \b
    Examples:
      cascade demo --quick
      cascade demo --data-dir /tmp/demo
    """
    from demo import FULL, QUICK, run_demo

    def cascade(*words: str | Path) -> None:
        main.main([str(word) for word in words], prog_name="cascade", standalone_mode=False)

    run_demo(cascade, data_dir, QUICK if quick else FULL, seed)
