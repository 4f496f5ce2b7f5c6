"""Proves the laws of the split, compares it with GrowthBook's package, and measures its cost.

python -m benchmarks.split --out docs/benchmarks
"""

import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hardware
from benchmarks.split import cost, laws, pairs
from benchmarks.split.page import page

PAGE, NUMBERS = "split.md", "split.json"
SEED = 8
STEPS = (0.05, 0.1, 0.25, 0.5, 1.0)


class Plan(NamedTuple):
    """How much."""

    pairs: int
    layers: int
    units: int
    rounds: int
    timed_units: int


FULL = Plan(pairs=1_000_000, layers=60, units=200_000, rounds=9, timed_units=20_000)
QUICK = Plan(pairs=2_000, layers=6, units=5_000, rounds=2, timed_units=200)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small and short: to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {NUMBERS}.")
def main(*, quick: bool, out: Path | None) -> None:
    """Measure, print, and write."""
    plan = QUICK if quick else FULL
    numbers = {"about": describe(quick), **measure(plan)}
    text = page(numbers)
    Console().print(Markdown(text))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")
        (out / PAGE).write_text(text)
    if numbers["agreement"]["differing"] or numbers["ramp"]["moved"]:
        raise click.ClickException("the split disagrees with GrowthBook, or a ramp moved units")


def describe(quick: bool) -> dict[str, str]:
    """Command, machine, versions and day."""
    return {
        "command": "python -m benchmarks.split" + " --quick" * quick,
        "machine": hardware.machine(),
        "versions": hardware.versions("growthbook", "xxhash", "pydantic", "numpy", "scipy"),
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def measure(plan: Plan) -> dict[str, Any]:
    """All parts, with a bar on standard error."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        timed = progress.add_task("cost", total=plan.rounds * len(cost.contenders()))
        costs = cost.measure(
            plan.rounds, plan.timed_units, lambda count: progress.advance(timed, count)
        )
        compared = progress.add_task("pairs", total=plan.pairs)
        agreement = pairs.compare(
            plan.pairs, SEED, tick=lambda count: progress.advance(compared, count)
        )
        proved = progress.add_task("laws", total=3)
        chosen = laws.choose(laws.layered(plan.layers), plan.units)
        independence, shares = laws.independence(chosen), laws.shares(chosen)
        progress.advance(proved)
        partly = laws.independence(laws.choose(laws.layered(plan.layers, (0, 5000)), plan.units))
        progress.advance(proved)
        ramp = laws.ramped(STEPS, plan.units)
        progress.advance(proved)
    return {
        "agreement": agreement._asdict(),
        "independence": independence._asdict(),
        "independence_at_half": partly._asdict(),
        "shares": shares._asdict(),
        "ramp": ramp._asdict(),
        "cost": [{**each._asdict(), "each_us": each.each_us} for each in costs],
    }


if __name__ == "__main__":
    main()
