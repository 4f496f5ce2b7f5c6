"""Data: what is trained on, prepared once."""

from pathlib import Path

import click

from cli.command import COMPLETE_JOURNEY, DATA_DIR, RECFLOW, main, path_option


@main.command()
@click.argument("source")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@path_option("--data-dir", "Folder the dataset goes under, as data/NAME.", DATA_DIR)
@path_option("--out", "Folder of the prepared dataset.  [default: DATA_DIR/data/NAME/prepared]")
def data(source: str, folder: Path | None, data_dir: Path, out: Path | None) -> None:
    r"""Prepare purchases, or the log of a cascade, for training.

    SOURCE is complete-journey, a year of a grocer's purchases that comes as a package; or the path
    of a dataset.toml that names the columns of your own users, items and interactions; or recflow,
    then FOLDER is the data folder of the RecFlow benchmark, or one that `cascade generate` made.

    \b
    Examples:
      cascade data complete-journey
      cascade data my-shop/dataset.toml --out my-shop/prepared
      cascade data recflow RecFlow/data --out var/data/recflow/prepared
    """
    if source == RECFLOW:
        if folder is None:
            raise click.UsageError(
                "recflow needs FOLDER, which holds all_stage, request_id_dict and the others"
            )
        _prepare_log(folder, out or data_dir / "data" / RECFLOW / "prepared")
        return
    if folder is not None:
        raise click.UsageError(f"{folder} is one word too many: only recflow takes a FOLDER")
    _prepare_purchases(source, data_dir, out)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--requests", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--days", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--short-share", default=0.0, show_default=True, help="Requests with lists that are not full."
)
@click.option(
    "--missing-share", default=0.0, show_default=True, help="Best videos whose row is missing."
)
def generate(
    folder: Path, requests: int, days: int, seed: int, short_share: float, missing_share: float
) -> None:
    r"""Make up the log of a cascade, in the files of the RecFlow benchmark.

    FOLDER must not hold anything yet. RecFlow itself cannot be shipped; what is made up has its
    files, its lists a request and a funnel whose stages disagree, not its users.

    \b
    Example:
      cascade generate var/data/recflow/source --requests 20000 --days 5
      cascade data recflow var/data/recflow/source
    """
    from training.progress import evaluation_bars
    from training.recflow.generator import generate as write

    with evaluation_bars() as progress:
        write(
            folder,
            requests=requests,
            days=days,
            seed=seed,
            short_share=short_share,
            missing_share=missing_share,
            progress=progress,
        )
    click.echo(f"{folder}: {requests // days * days:,} requests of {days} days")


def _prepare_log(source: Path, out: Path) -> None:
    from training.progress import evaluation_bars
    from training.recflow.preparation import prepare
    from training.recflow.preparation_report import render

    with evaluation_bars() as progress:
        report = prepare(source, out, name=RECFLOW, progress=progress)
    click.echo(render(report))
    click.echo(f"prepared: {out}")


def _prepare_purchases(source: str, data_dir: Path, out: Path | None) -> None:
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
            f"{source!r} is none of {COMPLETE_JOURNEY!r}, {RECFLOW!r} and the path of a .toml file",
            param_hint="SOURCE",
        )
    name = read_dataset_config(config_path).name
    dataset = prepare(config_path, out or data_dir / "data" / name / "prepared", step)
    counts = ", ".join(f"{len(dataset.requests(split)):,} {split}" for split in Split)
    click.echo(f"{dataset.path}: {len(dataset.items) - 1:,} items; requests: {counts}")
