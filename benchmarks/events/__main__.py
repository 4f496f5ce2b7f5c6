"""Times events: over HTTP into the log, and from the stream into the archive.

    python -m benchmarks.events --out docs/benchmarks

Server, store, archive and sender share the cores of this machine.
"""

import datetime
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hardware
from benchmarks.events import archiving, ingest

ROOT = Path(__file__).parents[2]
PAGE, NUMBERS = "events.md", "events.json"


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small and short: to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {NUMBERS}.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var/bench-events"),
    show_default=True,
    help="What is served; written anew.",
)
def main(*, quick: bool, out: Path | None, rounds: int, data: Path) -> None:
    """Measure, print, and write."""
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    seconds, events = (1.0, 20_000) if quick else (15.0, 300_000)
    about = [
        f"`{' '.join(['python -m benchmarks.events', *sys.argv[1:]])}`, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        hardware.machine(),
        hardware.versions("pyarrow", "orjson", "pydantic", "redis"),
    ]
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=rounds * (len(ingest.SHAPES) + 1), completed=-1)

        def tick(description: str) -> None:
            progress.update(task, advance=1, description=description)

        taken = ingest.measure(data / "served", ROOT, ingest.SHAPES, rounds, seconds, tick)
        moved = archiving.measure(data, events, rounds, tick)
        tick("done")
    text = page(about, taken, moved)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(text)
        numbers: dict[str, Any] = {
            "about": about,
            "ingest": [one._asdict() for one in taken],
            "archive": [one._asdict() for one in moved],
        }
        (out / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")


def page(
    about: Sequence[str], taken: Sequence[ingest.Taken], moved: Sequence[archiving.Archived]
) -> str:
    """The results as Markdown: medians over rounds, and the range of the rate."""
    lines = ["# Events", "", *(f"- {line}" for line in about), ""]
    lines += [
        "## Over HTTP",
        "",
        "`POST /v1/events` to a server of 2 workers. An event counts when it is acknowledged, "
        "which is when it is synced to the disk. CPU is of all processes of the server (workers, "
        "store, archive) and of the sender, which share the cores.",
        "",
        "| events | events/s | range | p50 ms | p99 ms | server CPU ms/1000 | sender CPU ms/1000 |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in ingest.SHAPES:
        some = [one for one in taken if one.shape == shape.name]
        rates = sorted(one.events / one.seconds for one in some)
        server = median(one.server_cpu_s / one.events for one in some)
        sender = median(one.sender_cpu_s / one.events for one in some)
        lines.append(
            f"| {shape.name}, {shape.connections} connections | {median(rates):,.0f} "
            f"| {rates[0]:,.0f} to {rates[-1]:,.0f} | {median(o.p50_ms for o in some):.1f} "
            f"| {median(o.p99_ms for o in some):.1f} | {server * 1e6:.0f} | {sender * 1e6:.0f} |"
        )
    errors = {name for one in taken for name in one.errors}
    lines += ["", f"Errors: {', '.join(sorted(errors)) or 'none'}.", ""]
    rates = sorted(one.events / one.seconds for one in moved)
    cpu = median(one.events / one.cpu_s for one in moved)
    lines += [
        "## Into the archive",
        "",
        f"`archive()` of {moved[0].events:,} events, of which one in {archiving.FEEDBACK + 1} is "
        f"an answer of 20 items with two stages: {median(rates):,.0f} events/s "
        f"({rates[0]:,.0f} to {rates[-1]:,.0f}); {cpu:,.0f} a second of its CPU time. "
        f"CPU of the store: {median(o.store_cpu_s / o.events for o in moved) * 1e6:.1f} us an "
        f"event. {moved[0].stream_bytes / moved[0].events:.0f} bytes of JSON an event become "
        f"{median(o.file_bytes / o.events for o in moved):.0f} on the disk. Peak memory "
        f"{max(o.peak_rss_bytes for o in moved) / 2**20:.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
