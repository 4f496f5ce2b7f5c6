"""`cascade`: every step from purchases to revenue per bucket as a command.

Libraries are imported inside the commands, so that `cascade --help` is quick.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

COMPLETE_JOURNEY = "complete-journey"
DATA_DIR = Path("var")
PREPARED = DATA_DIR / "data" / COMPLETE_JOURNEY / "prepared"

_OURS = {"abtest", "demo", "loadtest", "operators", "serving", "training"}

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("cascade")


class WrongInput(click.ClickException):
    """An error that other input would avoid."""

    exit_code = 2


class Commands(click.Group):
    """Commands whose expected errors end in one line; `--verbose` adds the traceback.

    Exit code 2 says that the input is wrong, which is what a `ValueError` of ours is; 1 that
    something else failed.
    """

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            ours = type(error).__module__.split(".")[0] in _OURS
            if not ours and (not isinstance(error, OSError) or error.filename is None):
                raise
            if ctx.params.get("verbose"):
                logger.exception("this ended the command:")
            kind = WrongInput if isinstance(error, ValueError) else click.ClickException
            raise kind(str(error)) from error


def path_option(name: str, help_text: str, default: Path | None = None) -> Callable[[F], F]:
    """An option that takes a path."""
    return click.option(
        name,
        type=click.Path(path_type=Path),
        default=default,
        show_default=default is not None,
        help=help_text,
    )


data_option = path_option("--data", "Prepared dataset, made by `cascade data`.", PREPARED)
data_dir_option = path_option("--data-dir", "Bundles, experiments, events and reports.", DATA_DIR)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say more, and show tracebacks.")
@click.version_option(package_name="cascade-recommender")
def main(verbose: bool) -> None:
    """Train a recommendation cascade, serve it, and measure its revenue per experiment arm.

    `cascade demo` does all of it. Every step is also a command of its own, in this order: data,
    train, evaluate, export, serve, replay, report.
    """
    # Read when torch is loaded. Threads that wait by spinning make training ten times slower as
    # soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


@main.command()
@click.argument("source")
@path_option("--data-dir", "Folder the dataset goes under, as data/NAME.", DATA_DIR)
@path_option("--out", "Folder of the prepared dataset.  [default: DATA_DIR/data/NAME/prepared]")
def data(source: str, data_dir: Path, out: Path | None) -> None:
    r"""Prepare purchases for training and replay.

    SOURCE is complete-journey, a year of a grocer's purchases that comes as a package, or the path
    of a dataset.toml that names the columns of your own users, items and interactions.

    \b
    Examples:
      cascade data complete-journey
      cascade data my-shop/dataset.toml --out my-shop/prepared
    """
    from training.data.complete_journey import write_tables
    from training.data.dataset import Split
    from training.data.source import read_dataset_config
    from training.data.transactions import prepare

    def step(words: str) -> None:
        click.echo(f"{words} ...", err=True)

    config_path = Path(source)
    if source == COMPLETE_JOURNEY:
        step("Writing the tables of Complete Journey")
        config_path = write_tables(data_dir / "data" / COMPLETE_JOURNEY / "source")
    elif config_path.suffix != ".toml":
        raise click.BadParameter(
            f"{source!r} is neither {COMPLETE_JOURNEY!r} nor the path of a .toml file",
            param_hint="SOURCE",
        )
    name = read_dataset_config(config_path).name
    dataset = prepare(config_path, out or data_dir / "data" / name / "prepared", step)
    counts = ", ".join(f"{len(dataset.requests(split)):,} {split}" for split in Split)
    click.echo(f"{dataset.path}: {len(dataset.items) - 1:,} items; requests: {counts}")


@main.command()
@click.argument("config")
@data_option
@path_option("--out", "Run folder.  [default: var/runs/NAME of the configuration]")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Instead of the configuration's."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the run folder.")
@click.option("--overwrite", is_flag=True, help="Remove the run in the run folder first.")
def train(
    config: str,
    data: Path,
    out: Path | None,
    seed: int | None,
    settings: tuple[str, ...],
    resume: bool,
    overwrite: bool,
) -> None:
    r"""Train a cascade.

    CONFIG is the path of a .toml file, or the name of one that comes with the package: baseline
    (each stage alone) or dftopk (both as one network). The run folder gets checkpoints, metrics and
    a learning curve; a run that was cut off goes on with --resume, and ends as if it had not been.

    \b
    Examples:
      cascade train dftopk
      cascade train dftopk --set train_requests=12000 --seed 1 --out var/runs/dftopk-1
    """
    from training.config import config_path, read_config
    from training.data.dataset import PreparedDataset
    from training.progress import training_bar
    from training.trainer import train as run_training

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    overrides: dict[str, Any] = dict(_key_and_value(text) for text in settings)
    if seed is not None:
        overrides["seed"] = seed
    chosen = read_config(config_path(config), overrides)
    dataset = PreparedDataset(data)
    _use_all_cores()
    with training_bar(chosen.name) as progress:
        result = run_training(
            dataset,
            chosen,
            out or DATA_DIR / "runs" / chosen.name,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    click.echo(
        f"{result.folder}: {result.step} of {result.steps} steps in {result.seconds:.0f} s; best "
        f"at step {result.best.step}: recall@20 {result.best.recall:.4f}, "
        f"revenue@20 {result.best.revenue_share:.4f} on validation"
    )


@main.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@data_option
@click.option(
    "--split", type=click.Choice(["validation", "test"]), default="test", show_default=True
)
@click.option("--limit", type=click.IntRange(min=1), help="Most requests, evenly spaced.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(
    runs: tuple[Path, ...], data: Path, split: str, limit: int | None, as_json: bool
) -> None:
    r"""Measure runs beside the yardsticks: popularity and personal frequency.

    RUNS are run folders. Every gain is paired, request by request, with its 95 % interval.

    \b
    Example:
      cascade evaluate var/runs/baseline var/runs/dftopk
    """
    from training.data.dataset import PreparedDataset, Split
    from training.evaluation import evaluate as measure
    from training.progress import evaluation_bars
    from training.scoreboard import render

    dataset = PreparedDataset(data)
    _use_all_cores()
    with evaluation_bars() as advance:
        found = measure(runs, dataset, Split(split), limit=limit, advance=advance)
    click.echo(found.model_dump_json(indent=1) if as_json else render(found))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_option
@path_option("--out", "Folder of the bundle.  [default: var/bundles/NAME of the run folder]")
def export(run: Path, data: Path, out: Path | None) -> None:
    r"""Make a bundle of a run: what the server loads.

    \b
    Example:
      cascade export var/runs/dftopk --out var/bundles/dftopk
    """
    from training.data.dataset import PreparedDataset
    from training.export import export as write

    dataset = PreparedDataset(data)
    bundle = write(run, dataset, out or DATA_DIR / "bundles" / run.resolve().name)
    megabytes = sum(file.stat().st_size for file in bundle.path.iterdir()) / 1e6
    manifest = bundle.manifest
    click.echo(f"{bundle.path}: {manifest.name}@{manifest.version}, {megabytes:.1f} MB")


@main.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="What to serve.  [default: var]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 for any.  [default: 8000]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: auto]")
def serve(**options: Any) -> None:  # noqa: ANN401
    r"""Serve the bundles of a data directory over HTTP, as its experiments.toml splits the traffic.

    What is not given is read from CASCADE_DATA_DIR, CASCADE_HOST, CASCADE_PORT and CASCADE_DEVICE.
    Without CASCADE_REDIS_URL the server starts a Valkey of its own under the data directory.

    \b
    Examples:
      cascade serve --data-dir var --port 8000
      curl -s localhost:8000/v1/recommend -H 'content-type: application/json' \
        -d '{"user_id": "1", "num": 5}'
    """
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    from serving.catalog import choose_device
    from serving.server import run

    settings = _settings(**options)
    try:
        choose_device(settings.device)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    run(settings)


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
    from abtest.archive import archive
    from abtest.experiment import load_config
    from abtest.report import analyze, render_html, render_text
    from serving.store import Store

    settings = _settings(data_dir=data_dir)
    config = load_config(settings.experiments_path)
    config.experiment(key)
    if settings.redis_url or settings.valkey_dir.is_dir():
        with Store(settings) as store, store.sync_client() as client:
            archive(client, settings.events_dir)
    found = analyze(settings.events_dir, config, key, replay=replay)
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


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} must be KEY=VALUE", param_hint="--set")
    return key.strip(), value.strip()


def _settings(**options: Any) -> Any:  # noqa: ANN401
    """Settings of the server: the options that were given, then the environment."""
    from pydantic import ValidationError

    from serving.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        name = "CASCADE_" + "_".join(str(part) for part in fault["loc"]).upper()
        raise click.UsageError(f"{name} = {fault['input']!r}: {fault['msg']}") from error


def _use_all_cores() -> None:
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)


if __name__ == "__main__":
    main()
