"""Times the server beside others on the same cascade, the index at a million items, and the ranker.

    make bench TARGET=serving ARGS='--out docs/benchmarks'

Servers run in turn on this machine, with the load generator beside them, over loopback. Others are
installed into environments of their own, which takes the network once.
"""

import datetime
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hardware
from benchmarks.serving import compare, index, picture, ranker, table, wording
from benchmarks.serving.contenders import Contender, contenders, shared_environment
from benchmarks.serving.plan import FULL, QUICK, Plan

ROOT = Path(__file__).parents[2]
PARTS = ("servers", "index", "ranker")
PAGE, PICTURE, NUMBERS = "serving.md", "serving.png", "serving.json"
INDEX_TICKS = 7


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small and short: to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {PICTURE}.")
@click.option("--part", type=click.Choice(PARTS), multiple=True, help="[default: all]")
@click.option("--only", multiple=True, help="Servers that take part.  [default: all]")
@click.option("--workers", type=click.IntRange(min=1), help="Of each server.  [default: 2]")
@click.option("--rounds", type=click.IntRange(min=1), help="Of the servers.  [default: 3]")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var/bench-serving"),
    show_default=True,
    help="What is served; written anew.",
)
@click.option(
    "--venv",
    type=click.Path(path_type=Path),
    default=Path("var/bench-serving-venv"),
    show_default=True,
    help="Folder of the others' environments.",
)
def main(
    *,
    quick: bool,
    out: Path | None,
    part: tuple[str, ...],
    only: tuple[str, ...],
    workers: int | None,
    rounds: int | None,
    data: Path,
    venv: Path,
) -> None:
    """Measure, print, and write."""
    # Serving does the same: what TorchScript's deprecation means is known.
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    plan = _planned(QUICK if quick else FULL, workers, rounds)
    chosen = _chosen(only)
    about = describe(sys.argv[1:], plan)
    parts = part or PARTS
    place = compare.Place(ROOT, data.absolute(), venv.absolute())
    sections: list[str] = []
    numbers: dict[str, Any] = {"about": about}
    torch.set_num_threads(1)
    with _progress(plan, chosen, parts) as tick:
        if "servers" in parts:
            served = compare.measure(plan, chosen, place, tick)
            shown = PICTURE if out else None
            told = wording.servers(plan)
            sections.append(table.servers_section(served, chosen, shown, told))
            numbers["servers"] = _plain(served)
        if "index" in parts:
            found = index.measure(plan.indexes, shared_environment(ROOT), ROOT, tick)
            sections.append(table.index_section(found, wording.indexes(plan.indexes)))
            numbers["index"] = _plain(found)
        if "ranker" in parts:
            timed = ranker.measure(plan.ranker, tick)
            sections.append(table.ranker_section(timed, wording.ranker(plan.ranker)))
            numbers["ranker"] = [one._asdict() for one in timed]
        tick("done")
    text = table.page(about, sections)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(text)
        (out / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")
        if "servers" in parts:
            picture.draw(served, [contender.name for contender in chosen], out / PICTURE)


def describe(arguments: Sequence[str], plan: Plan) -> list[str]:
    """What ran where, a line each."""
    command = " ".join(["python -m benchmarks.serving", *arguments])
    return [
        f"`{command}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        hardware.machine(),
        hardware.versions("numpy", "faiss-cpu", "uvicorn", "uvloop", "httptools"),
        f"{plan.load.workers} workers a server, one thread a worker, load from the same machine",
    ]


def _planned(plan: Plan, workers: int | None, rounds: int | None) -> Plan:
    load = plan.load._replace(
        workers=workers or plan.load.workers, rounds=rounds or plan.load.rounds
    )
    return plan._replace(load=load)


def _chosen(only: Sequence[str]) -> list[Contender]:
    known = {contender.name: contender for contender in contenders()}
    for name in only:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is no server of this benchmark; those are {', '.join(known)}",
                param_hint="--only",
            )
    return [contender for name, contender in known.items() if not only or name in only]


@contextmanager
def _progress(
    plan: Plan, chosen: Sequence[Contender], parts: Sequence[str]
) -> Iterator[compare.Tick]:
    ticks = {
        "servers": compare.steps(plan, chosen),
        "index": INDEX_TICKS,
        "ranker": len(plan.ranker.histories) * len(plan.ranker.candidates),
    }
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        total = sum(ticks[part] for part in parts)
        task = progress.add_task("", total=total, completed=-1)
        yield lambda description: progress.update(task, advance=1, description=description)


def _plain(found: Any) -> dict[str, Any]:  # noqa: ANN401
    """Lists of named tuples as lists of dictionaries."""
    return {name: [row._asdict() for row in rows] for name, rows in found._asdict().items()}


if __name__ == "__main__":
    main()
