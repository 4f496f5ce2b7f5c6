"""Kills processes of a server under load, and compares its archive with the sender's ledger.

    python -m benchmarks.kills --out docs/benchmarks

Killed (SIGKILL) are the master, a worker, the background process and the store, in random order.
"""

import datetime
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hardware
from benchmarks.events.ingest import CATALOGUE
from benchmarks.kills.run import SENDERS, WORKERS, Result, run
from benchmarks.serving import workload

ROOT = Path(__file__).parents[2]
PAGE, NUMBERS = "kills.md", "kills.json"


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of order and pauses.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {NUMBERS}.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var/bench-kills"),
    show_default=True,
    help="What is served; written anew.",
)
def main(*, kills: int, seed: int, out: Path | None, data: Path) -> None:
    """Kill, compare, print, write; exit code 1 where anything is lost or doubled."""
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    about = [
        f"`{' '.join(['python -m benchmarks.kills', *sys.argv[1:]])}`, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        hardware.machine(),
    ]
    data_dir = workload.write(data.absolute(), CATALOGUE)["mlp"].data_dir
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TextColumn("{task.description}"), console=Console(stderr=True)
    ) as progress:
        task = progress.add_task("", total=kills)
        result = run(
            data_dir,
            ROOT,
            kills,
            seed,
            lambda kind: progress.update(task, advance=1, description=f"killed: {kind}"),
        )
    text = page(about, result)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(text)
        numbers = {"about": about, **result._asdict()}
        (out / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")
    sys.exit(0 if result.clean else 1)


def page(about: Sequence[str], result: Result) -> str:
    """The result as Markdown."""
    killed = ", ".join(f"{kind} {count}" for kind, count in sorted(result.kills.items()))
    return "\n".join(
        [
            "# Kills",
            "",
            *(f"- {line}" for line in about),
            "",
            f"A server of {WORKERS} workers under the load of {SENDERS} senders, each of which "
            "asks, reports an impression, a click and a sale, sometimes a refund, and sends again "
            f"what was not acknowledged. Killed with SIGKILL, {sum(result.kills.values())} times "
            f"in {result.seconds:.0f} s: {killed}. The whole server was started again "
            f"{result.restarts} times, the rest starts itself.",
            "",
            "| | |",
            "|---|---|",
            f"| answers acknowledged | {result.answers:,} |",
            f"| events of feedback acknowledged | {result.events:,} |",
            f"| requests that were sent again | {result.repeats:,} |",
            f"| answers that said they are not logged | {result.unlogged:,} |",
            f"| revenue by the ledger | {result.sent_micros / 1e6:,.6f} |",
            f"| revenue in the archive | {result.archived_micros / 1e6:,.6f} |",
            f"| answers lost | {result.lost_answers} |",
            f"| events lost | {result.lost_events} |",
            f"| events or answers doubled | {result.doubled} |",
            f"| events that nobody sent | {result.strange_events} |",
            f"| events refused | {len(result.faults)} |",
            "",
        ]
    )


if __name__ == "__main__":
    main()
