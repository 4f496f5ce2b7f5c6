"""Data: what is trained on, prepared once."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.command import COMPLETE_JOURNEY, DATA_DIR, RECFLOW, main, path_option

if TYPE_CHECKING:
    from training.data.dataset import PreparedDataset

EVENTS = "events"
SYNTHETIC = "synthetic"
_OPTIONS = {
    SYNTHETIC: ("users", "items", "seed"),
    EVENTS: ("shop", "validation_days", "test_days", "clicks"),
}


@main.command()
@click.argument("source")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@path_option("--data-dir", "Folder the dataset goes under, as data/NAME.", DATA_DIR)
@path_option("--out", "Folder of the prepared dataset.  [default: DATA_DIR/data/NAME/prepared]")
@click.option("--users", type=click.IntRange(min=1), help="Of synthetic.  [default: 2000]")
@click.option("--items", type=click.IntRange(min=1), help="Of synthetic.  [default: 1000]")
@click.option("--seed", type=click.IntRange(min=0), help="Of synthetic.  [default: 0]")
@path_option("--shop", "Of events: dataset.toml of the shop's tables.")
@click.option(
    "--validation-days", type=click.IntRange(min=1), help="Of events, before test.  [default: 1]"
)
@click.option("--test-days", type=click.IntRange(min=1), help="Of events.  [default: 1]")
@click.option("--clicks", is_flag=True, help="Of events: what was clicked counts as truth, too.")
def data(source: str, folder: Path | None, data_dir: Path, out: Path | None, **given: Any) -> None:  # noqa: ANN401
    r"""Prepare purchases, or the log of a cascade, for training.

    SOURCE is complete-journey, a year of a grocer's purchases that comes as a package; or the path
    of a dataset.toml that names the columns of your own users, items and interactions; or
    synthetic, a made-up shop whose truth is known; or events, what a server of this data directory
    has logged; or recflow, then FOLDER is the data folder of the RecFlow benchmark, or one that
    `cascade generate` made.

    Events need the shop's tables: --shop, or the only data/NAME/source/dataset.toml there is.

    \b
    Examples:
      cascade data complete-journey
      cascade data my-shop/dataset.toml --out my-shop/prepared
      cascade data events --shop my-shop/dataset.toml
      cascade data recflow RecFlow/data --out var/data/recflow/prepared
    """
    _check_options(source, given)
    if source == RECFLOW:
        if folder is None:
            raise click.UsageError(
                "recflow needs FOLDER, which holds all_stage, request_id_dict and the others"
            )
        _prepare_log(folder, out or data_dir / "data" / RECFLOW / "prepared")
        return
    if folder is not None:
        raise click.UsageError(f"{folder} is one word too many: only recflow takes a FOLDER")
    if source == EVENTS:
        _prepare_events(data_dir, out, **given)
    elif source == SYNTHETIC:
        _prepare_synthetic(data_dir, out, given["users"], given["items"], given["seed"])
    else:
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


def _check_options(source: str, given: Mapping[str, Any]) -> None:
    for owner, names in _OPTIONS.items():
        for name in names:
            if given[name] not in (None, False) and source != owner:
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} is for {owner} only, not for {source}")


def _prepare_events(
    data_dir: Path,
    out: Path | None,
    *,
    shop: Path | None,
    validation_days: int | None,
    test_days: int | None,
    clicks: bool,
    **_: Any,  # noqa: ANN401
) -> None:
    from training.data.events import prepare_events
    from training.data.source import SplitSection

    dataset = prepare_events(
        data_dir / "events",
        shop or _only_shop(data_dir),
        out or data_dir / "data" / EVENTS / "prepared",
        split=SplitSection(test_days=test_days or 1, validation_days=validation_days or 1),
        clicks=clicks,
        step=_say,
    )
    _count(dataset)


def _only_shop(data_dir: Path) -> Path:
    """The one description of a shop's tables under a data directory."""
    found = sorted((data_dir / "data").glob("*/source/dataset.toml"))
    if len(found) != 1:
        names = ", ".join(str(path) for path in found) or "none"
        raise click.UsageError(
            f"under {data_dir / 'data'} there must be one */source/dataset.toml to take the users "
            f"and items of the events from, found {names}; name it with --shop"
        )
    return found[0]


def _prepare_synthetic(
    data_dir: Path, out: Path | None, users: int | None, items: int | None, seed: int | None
) -> None:
    from training.data.transactions import prepare
    from training.synthetic.tables import write_tables
    from training.synthetic.world import make_world

    _say("Making up a shop")
    folder = data_dir / "data" / SYNTHETIC
    config_path = write_tables(
        make_world(users or 2000, items or 1000, seed or 0), folder / "source"
    )
    _count(prepare(config_path, out or folder / "prepared", _say))


def _say(words: str) -> None:
    click.echo(f"{words} ...", err=True)


def _count(dataset: "PreparedDataset") -> None:
    from training.data.dataset import Split

    counts = ", ".join(f"{len(dataset.requests(split)):,} {split}" for split in Split)
    click.echo(f"{dataset.path}: {len(dataset.items) - 1:,} items; requests: {counts}")


def _prepare_purchases(source: str, data_dir: Path, out: Path | None) -> None:
    from training.data.complete_journey import write_tables
    from training.data.source import read_dataset_config
    from training.data.transactions import prepare

    config_path = Path(source)
    if source == COMPLETE_JOURNEY:
        _say("Writing the tables of Complete Journey")
        config_path = write_tables(data_dir / "data" / COMPLETE_JOURNEY / "source")
    elif config_path.suffix != ".toml":
        raise click.BadParameter(
            f"{source!r} is none of {COMPLETE_JOURNEY!r}, {RECFLOW!r}, {SYNTHETIC!r}, {EVENTS!r} "
            "and the path of a .toml file",
            param_hint="SOURCE",
        )
    name = read_dataset_config(config_path).name
    _count(prepare(config_path, out or data_dir / "data" / name / "prepared", _say))
