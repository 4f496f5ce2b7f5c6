"""Times every operator and the loss beside what one would use in their place.

Everything is float32 with k = N/4, forward and backward, net of any model. Run with
`python -m benchmarks.operators`; `--out docs/benchmarks` writes the page and the pictures.
"""

import datetime
import sys
from pathlib import Path
from typing import NamedTuple

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import hardware
from benchmarks.operators import growth, loss, mask, picture
from benchmarks.operators.plan import FULL, FULL_GPU, QUICK, Plan
from benchmarks.operators.table import Table, for_page, for_terminal
from benchmarks.operators.timing import threads
from operators.kernels import cpu


class Results(NamedTuple):
    """Of one device."""

    device: str
    losses: list[loss.LossCase]
    joint: list[loss.LossCase]
    masks: list[mask.MaskCase]
    growth: growth.Growth
    elements: int
    """Candidates of a call in `growth`, as planned."""

    def tables(self) -> list[Table]:
        """All parts."""
        return [
            loss.table(self.losses, self.device),
            loss.joint_table(self.joint, self.device),
            mask.table(self.masks, self.device),
            growth.table(self.growth, self.elements, self.device),
        ]

    def draw(self, folder: Path) -> list[str]:
        """Write both pictures, and give their names."""
        suffix = "" if self.device == "cpu" else f"-{self.device}"
        names = [f"operators{suffix}.png", f"growth{suffix}.png"]
        picture.draw_times(self.losses, self.masks, self.device, folder / names[0])
        picture.draw_growth(self.growth, self.device, folder / names[1])
        return names


def measure(plan: Plan, device: str) -> Results:
    """All parts on one device, with a bar on standard error."""
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    steps = sum(map(len, (plan.losses, plan.joint, plan.masks, plan.growth)))
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=steps, completed=-1)

        def tick(description: str) -> None:
            progress.update(task, advance=1, description=f"{device}: {description}")

        losses = loss.measure(plan, device, tick)
        joint = loss.measure_joint(plan, device, tick)
        masks = mask.measure(plan, device, tick)
        grown = growth.measure(plan, device, tick)
        tick("done")
    return Results(device, losses, joint, masks, grown, plan.growth_elements)


def describe(quick: bool, out: Path | None) -> list[str]:
    """What ran where, a line each."""
    options = ["--quick"] * quick + ([f"--out {out}"] if out else [])
    level = cpu.instruction_set()
    kernels = "none, torch operations run" if level < 0 else f"up to {cpu.INSTRUCTION_SETS[level]}"
    return [
        f"`{' '.join(['python -m benchmarks.operators', *options])}`, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        hardware.machine(),
        hardware.versions("numpy", "entmax", "difftopk"),
        f"compiled kernels: {kernels}; on the CPU one thread unless said; float32; k = N/4",
        hardware.gpu() or "no CUDA device: rows of a GPU are left out",
    ]


def page(lines: list[str], results: list[Results], pictures: list[str]) -> str:
    """The page of all results."""
    head = ["# Operators, timed", "", *(f"- {line}" for line in lines), ""]
    head += [f"![{name}]({name})\n" for name in pictures]
    return "\n".join([*head, *(for_page(table) for one in results for table in one.tables())])


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Small shapes and few turns: to see that it runs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for operators.md, operators.png and growth.png.",
)
def main(quick: bool, out: Path | None) -> None:
    """Measure, print, and write."""
    lines = describe(quick, out)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for line in lines:
        console.print(line, markup=False, highlight=False)
    plans = {"cpu": FULL, "cuda": FULL_GPU} if torch.cuda.is_available() else {"cpu": FULL}
    with threads(1):
        results = [measure(QUICK if quick else plan, device) for device, plan in plans.items()]
    for one in results:
        for table in one.tables():
            console.print()
            console.print(for_terminal(table))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        pictures = [name for one in results for name in one.draw(out)]
        (out / "operators.md").write_text(page(lines, results, pictures))
        console.print(f"written: {', '.join(['operators.md', *pictures])} in {out}")


if __name__ == "__main__":
    main()
