"""How quick ten million archived events become a report, and a page of the dashboard.

make bench TARGET=report ARGS='--out docs/benchmarks'
"""

import json
import shutil
import statistics
from pathlib import Path
from typing import NamedTuple

import click
from rich.progress import track

from benchmarks.hardware import machine, versions
from benchmarks.report import dashboard
from benchmarks.report.log import EXPERIMENTS, FILE_EVENTS, KEY, Size, sizes, write
from benchmarks.report.step import Cost, Place, measure, measure_command
from benchmarks.serving import workload
from benchmarks.serving.plan import QUICK

ROOT = Path(__file__).parents[2]
CATALOGUE = QUICK.catalogue._replace(rankers=("mlp",))
"""What the server of the dashboard serves: of no weight here."""
REPORT = f"`cascade report {KEY}`"


class Row(NamedTuple):
    """A step, and the medians of its costs."""

    step: str
    runs: int
    cost: Cost


class Found(NamedTuple):
    """Everything that was measured."""

    about: tuple[str, ...]
    events: int
    size: Size
    files: int
    archive_mb: float
    rollups_mb: float
    rows: tuple[Row, ...]
    pages: tuple[dashboard.Page, ...]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var/bench/report"),
    show_default=True,
    help="Data directory of the archive; made anew.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of report.md and report.json.")
@click.option("--answers", type=click.IntRange(min=100), default=400_000, show_default=True)
@click.option("--units", type=click.IntRange(min=10), default=200_000, show_default=True)
@click.option("--days", type=click.IntRange(min=2), default=14, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=7, show_default=True)
def main(data: Path, out: Path | None, answers: int, units: int, days: int, runs: int) -> None:
    """Time rollups, report and dashboard on a large archive."""
    about = (machine(), versions("duckdb", "pyarrow", "numpy"))
    found = measured(data, Size(answers, units, days), runs, about)
    text = page(found)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.md").write_text(text)
        (out / "report.json").write_text(json.dumps(to_json(found), indent=1) + "\n")


def measured(data: Path, size: Size, runs: int, about: tuple[str, ...]) -> Found:
    """Write the archive and measure every step on it."""
    shutil.rmtree(data, ignore_errors=True)
    folder = workload.write(data, CATALOGUE)["mlp"].data_dir
    (folder / "experiments.toml").write_text(EXPERIMENTS)
    place = Place(folder / "events", folder / "rollups")
    events = write(place.events, size, seed=0)
    files = sorted(place.events.glob("day=*/*.parquet"))
    newest = [path for path in files if path.parent == files[-1].parent][-1]
    newest.rename(data / newest.name)
    rows = [Row("roll up everything", 1, measure("roll_up", place))]
    (data / newest.name).rename(newest)
    rows.append(Row("roll up one file more", 1, measure("roll_up", place)))
    steps = (
        ("read a report's numbers", "read_inputs"),
        ("make the report", "make_report"),
        ("find nothing new", "roll_up"),
    )
    costs: dict[str, list[Cost]] = {name: [] for name, _ in steps}
    for _ in track(range(runs), "reading"):
        for name, step in steps:
            costs[name].append(measure(step, place))
        costs.setdefault(REPORT, []).append(
            measure_command("cli", "report", KEY, "--data-dir", str(folder))
        )
    rows += [Row(name, runs, median(some)) for name, some in costs.items()]
    pages = dashboard.measure(folder, ROOT, runs)
    archive_mb, rollups_mb = (sum(sizes(folder)) / 10**6 for folder in place)
    return Found(about, events, size, len(files), archive_mb, rollups_mb, tuple(rows), pages)


def median(costs: list[Cost]) -> Cost:
    """Of each number."""
    return Cost(*(statistics.median(numbers) for numbers in zip(*costs, strict=True)))


def page(found: Found) -> str:
    """The results in Markdown."""
    size = found.size
    lines = [
        "# Report",
        "",
        "```",
        "make bench TARGET=report ARGS='--out docs/benchmarks'",
        "```",
        "",
        *(f"- {line}" for line in found.about),
        "",
        f"{found.events:,} events of {size.days} days: {size.answers:,} answers to {size.units:,} "
        f"units with their impressions, clicks and conversions, each in three experiments. They "
        f"stand in {found.files:,} files of {FILE_EVENTS:,} events, {found.archive_mb:,.0f} MB "
        "without the events' JSON; one event in a thousand stands in two files. The rollups are "
        f"{found.rollups_mb:,.0f} MB. Each step runs in a process of its own; processor time is "
        "that of all threads, and depends little on what else the machine does; seconds do.",
        "",
        "| step | runs | seconds | processor seconds | peak memory, MB |",
        "|---|---|---|---|---|",
        *(
            f"| {row.step} | {row.runs} | {row.cost.wall_s:.2f} | {row.cost.cpu_s:.2f} | "
            f"{row.cost.peak_mb:,.0f} |"
            for row in found.rows
        ),
        "",
        "*Read a report's numbers*: counts and percentiles of every variant, every built-in metric "
        "of every unit, the first one at the end of each day, of each day alone and by segment. "
        "*Make the report* is that and all that is computed of it, in a process that has its "
        f"libraries, as the server's background process has; {REPORT} is the whole command, from "
        "the start of the interpreter to the written page.",
        "",
        *_dashboard_lines(found.pages),
    ]
    return "\n".join(lines)


def _dashboard_lines(pages: tuple[dashboard.Page, ...]) -> list[str]:
    if not pages:
        return ["The dashboard was not looked at: there is no Chromium on this machine.", ""]
    return [
        "The dashboard over this archive, in headless Chromium without a cache, from the click on "
        "its address to the last number drawn; the server has one worker. Medians, and the "
        "slowest of all runs.",
        "",
        "| page | runs | ms | slowest, ms | transferred, kB |",
        "|---|---|---|---|---|",
        *(
            f"| {page.name} | {len(page.ms)} | {statistics.median(page.ms):.0f} | "
            f"{max(page.ms):.0f} | {page.transferred_kb:.0f} |"
            for page in pages
        ),
        "",
    ]


def to_json(found: Found) -> dict[str, object]:
    """The results by name."""
    rows = {row.step: {"runs": row.runs, **row.cost._asdict()} for row in found.rows}
    pages = [page._asdict() for page in found.pages]
    return {**found._asdict(), "size": found.size._asdict(), "rows": rows, "pages": pages}


if __name__ == "__main__":
    main()
