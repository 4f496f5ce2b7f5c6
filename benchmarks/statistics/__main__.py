"""Measures how often the statistics are right, on simulated experiments whose truth is known.

    python -m benchmarks.statistics --out docs/benchmarks

Every study is seeded, so the same numbers come out wherever it runs.
"""

import datetime
import json
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from benchmarks import hardware
from benchmarks.statistics.picture import draw
from benchmarks.statistics.rate import Rate
from benchmarks.statistics.studies import STUDIES
from benchmarks.statistics.study import Study

PAGE, PICTURE, NUMBERS = "statistics.md", "statistics.png", "statistics.json"
PACKAGES = ("numpy", "scipy", "tea-tasting")


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--runs", default=2000, show_default=True, help="Experiments a study.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {PICTURE}.")
@click.option("--processes", default=hardware.cores(), help="Studies at a time.")
def main(runs: int, out: Path | None, processes: int) -> None:
    """Measure, print, and write; exit code 1 if a rate is out of its band."""
    start, about = time.perf_counter(), describe(runs, out)
    with ProcessPoolExecutor(processes) as pool:
        parts = [pool.submit(_timed, study, runs) for study in STUDIES]
        bar = track(parts, "studies", console=Console(stderr=True))
        found = [part.result() for part in bar]
    rates = [rate for part, _ in found for rate in part]
    seconds = sum(part for _, part in found)
    about.append(f"{seconds:.0f} s of processor time, {time.perf_counter() - start:.0f} s in all")
    shown = page(about, rates, PICTURE if out else None)
    click.echo(shown)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        draw(rates, out / PICTURE)
        (out / PAGE).write_text(shown)
        numbers = {"about": about, "rates": [rate._asdict() for rate in rates]}
        (out / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")
    if not all(rate.holds for rate in rates):
        sys.exit(1)


def _timed(study: Study, runs: int) -> tuple[list[Rate], float]:
    start = time.process_time()
    rates = study(runs)
    return rates, time.process_time() - start


def describe(runs: int, out: Path | None) -> list[str]:
    """What ran where, a line each."""
    words = ["python -m benchmarks.statistics", f"--runs {runs}", f"--out {out}" if out else ""]
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return [
        f"`{' '.join(filter(None, words))}`, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        hardware.machine(),
        f"Python {platform.python_version()}, {packages}",
        f"{runs:,} experiments a study, seeded",
    ]


def page(about: Sequence[str], rates: Sequence[Rate], picture: str | None) -> str:
    """The page of all rates."""
    lines = ["# Error rates, measured", "", *(f"- {line}" for line in about), ""]
    lines += [f"![Rates and their bands]({picture})", ""] if picture else []
    lines += [
        "A band is where the true rate must be. The measured share holds if it is in the band, "
        "give or take two standard errors. *Wrong* marks what must not be done, to show that the "
        "studies can tell.",
        "",
        "| experiments | what was counted | share | 95 % interval | band | holds |",
        "|---|---|---:|---|---|---|",
    ]
    for rate in rates:
        low, high = rate.interval
        lines.append(
            f"| {rate.study} | {rate.what} | {rate.share:.4f} | {low:.4f} to {high:.4f} | "
            f"{rate.low:g} to {rate.high:g} | {'yes' if rate.holds else 'NO'} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
