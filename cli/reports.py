"""Reports: what an experiment found, what the next one needs, and whether the platform errs."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command import data_dir_option, main, path_option, settings

if TYPE_CHECKING:
    from abtest.split.config import ExperimentConfig
    from serving.settings import Settings
    from serving.state.store import Store


@main.command()
@click.argument("key")
@data_dir_option
@path_option("--html", "Write the page here.  [default: DATA_DIR/reports/KEY.html]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def report(key: str, data_dir: Path, html: Path | None, as_json: bool) -> None:
    r"""Say what to do with an experiment, and why: ship, stop, wait, hold.

    KEY names an experiment or a holdout. Works beside a running server and without one: first it
    archives the events that are not yet in files. The page has charts, and needs no network.

    \b
    Examples:
      cascade report dftopk-vs-baseline
      cascade report new-ranking --json > report.json
    """
    from abtest.report.making import make
    from abtest.report.page import render_html
    from abtest.report.terminal import render_text
    from abtest.report.trial import trial
    from serving.reports.step import open_archive

    chosen = settings(data_dir=data_dir)
    config = archived_config(chosen)
    declared = trial(config, key)
    with bar("rolling up") as progress:
        found = make(
            open_archive(chosen),
            declared,
            as_of=datetime.now(UTC),
            progress=progress,
        )
    page = html or chosen.reports_dir / f"{key}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_html(found), encoding="utf-8")
    click.echo(found.model_dump_json(indent=1) if as_json else render_text(found))
    click.echo(f"page: {page}", err=as_json)


def archived_config(chosen: "Settings") -> "ExperimentConfig":
    """The experiments in force, once all events that the store has are in files.

    Raises:
        ExperimentError: they cannot be read.
        StoreError: the store cannot be opened.
        ArchiveError: events cannot be archived.
    """
    from abtest.log.archive import archive
    from abtest.split.config import load_config
    from serving.state.store import Store

    if chosen.redis_url or chosen.valkey_dir.is_dir():
        with Store(chosen) as store:
            with store.sync_client() as client:
                archive(client, chosen.events_dir)
            newest = asyncio.run(_newest(store))
            if newest is not None:
                return newest
    return load_config(chosen.experiments_path)


async def _newest(store: "Store") -> "ExperimentConfig | None":
    from serving.experiments.store import VersionStore

    async with store.client() as client:
        version = await VersionStore(client).newest()
    return None if version is None else version.config


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; the block gets what to call with done and total."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), Remaining())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
