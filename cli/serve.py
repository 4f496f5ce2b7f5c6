"""Online: serve, replay traffic, report; and the demo of all of it."""

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
@click.argument("key")
@data_dir_option
@path_option("--html", "Write the page here.  [default: DATA_DIR/reports/KEY.html]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--replay/--live", help="Whether the traffic was a replay.  [default: live]")
def report(key: str, data_dir: Path, html: Path | None, as_json: bool, replay: bool) -> None:
    r"""Compare the variants of an experiment: revenue, lift, latency.

    KEY names the experiment. Works beside a running server and without one: first it archives the
    events that are not yet in files.

    \b
    Example:
      cascade report dftopk-vs-baseline --replay
    """
    from abtest.log.archive import archive
    from abtest.report.report import analyze, render_html, render_text
    from abtest.split.config import load_config
    from serving.state.store import Store

    chosen = settings(data_dir=data_dir)
    config = load_config(chosen.experiments_path)
    config.experiment(key)
    if chosen.redis_url or chosen.valkey_dir.is_dir():
        with Store(chosen) as store, store.sync_client() as client:
            archive(client, chosen.events_dir)
    found = analyze(chosen.events_dir, config, key, replay=replay)
    page = html or data_dir / "reports" / f"{key}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_html(found), encoding="utf-8")
    click.echo(found.model_dump_json(indent=1) if as_json else render_text(found))
    click.echo(f"page: {page}", err=as_json)


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
