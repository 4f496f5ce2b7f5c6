"""Offline: from purchases or logs to a bundle."""

from pathlib import Path
from typing import Any

import click

from cli.command import (
    COMPLETE_JOURNEY,
    DATA_DIR,
    data_option,
    main,
    path_option,
    use_all_cores,
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
    use_all_cores()
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
    use_all_cores()
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


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} must be KEY=VALUE", param_hint="--set")
    return key.strip(), value.strip()
