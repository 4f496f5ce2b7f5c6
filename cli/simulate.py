"""Simulate: does the platform decide right? Experiments whose truth is known."""

import json as json_format

import click

from cli.command import main


@main.command()
@click.option("--experiments", type=click.IntRange(1, 100_000), default=30, show_default=True)
@click.option(
    "--lift",
    "lifts",
    type=click.FloatRange(-1, 10),
    multiple=True,
    help="True lift of revenue a user, as a share; more than one may be given.  "
    "[default: 0, 0.25, -0.25]",
)
@click.option("--users", type=click.IntRange(10, 200_000), default=1000, show_default=True)
@click.option("--items", type=click.IntRange(50, 100_000), default=500, show_default=True)
@click.option("--days", type=click.IntRange(7, 365), default=14, show_default=True, help="At most.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def simulate(
    experiments: int,
    lifts: tuple[float, ...],
    users: int,
    items: int,
    days: int,
    seed: int,
    as_json: bool,
) -> None:
    r"""Run experiments in a made-up world and compare each decision with the truth.

    Synthetic users see the lists of their variant, click and buy. What the variants earn is
    computed exactly, so the true lift is known. Splitter, event log, archive and report are the
    platform's own; there is no server and no model in between. Every day is looked at, and an
    experiment ends as soon as its report says more than wait.

    \b
    Right is what keeps the better arm: to ship where the true lift is above 0, and not to ship
    elsewhere. The oracle is told the truth beforehand and reads one fixed-horizon test, on the
    first day on which that has 80 % power.

    \b
    Examples:
      cascade simulate
      cascade simulate --experiments 100 --lift 0 --lift 0.1 --users 5000 --days 28
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from cli.simulation.outcome import as_json as written
    from cli.simulation.outcome import false_ships, is_right, rate, table
    from cli.simulation.run import Simulation
    from cli.simulation.run import simulate as run

    simulation = Simulation(experiments, lifts or (0.0, 0.25, -0.25), users, items, days, seed)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=experiments)
        decided, outcomes = run(
            simulation, lambda what, ended: progress.update(bar, description=what, advance=ended)
        )
    if as_json:
        found = {"simulation": simulation._asdict()} | written(decided, outcomes)
        click.echo(json_format.dumps(found, indent=1))
        return
    console = Console(width=100, highlight=False)
    console.print(table(outcomes))
    right = rate(sum(map(is_right, decided)), len(decided))
    console.print(f"\nright decisions: {right}; no better and shipped: {false_ships(decided)}")
    console.print("[dim]in brackets: 95 % interval of the share[/dim]")
