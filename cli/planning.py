"""Planning: how long an experiment takes, and whether the platform's error rates hold."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command import data_dir_option, main, settings
from cli.reports import archived_config, bar

if TYPE_CHECKING:
    from datetime import datetime

    from abtest.analysis.metric import Metric
    from abtest.analysis.readings.history import History

_DAYS = 28

_metric_option = click.option(
    "--metric", default="revenue_per_unit", show_default=True, help="What decides."
)
_days_option = click.option(
    "--days", type=click.IntRange(min=1), default=_DAYS, show_default=True,
    help="Days of history that are read, the last ones archived.",
)  # fmt: skip
_until_option = click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), help="The last of them, instead."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@main.command()
@_metric_option
@click.option(
    "--effect", type=float, default=0.02, show_default=True,
    help="Smallest effect worth finding, as a share of the metric's value.",
)  # fmt: skip
@click.option("--power", type=float, default=0.8, show_default=True, help="Chance to find it.")
@click.option(
    "--variants", type=click.IntRange(min=2), default=2, show_default=True, help="With the control."
)
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
    help="Of the traffic that comes into the experiment.",
)  # fmt: skip
@_days_option
@_until_option
@data_dir_option
@_json_option
def plan(
    metric: str, effect: float, power: float, variants: int, share: float, days: int,
    until: "datetime | None", data_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    r"""Say how many units an experiment needs, from archived traffic, and how many days that takes.

    Prints planned_units for the experiment's configuration, and what smaller and larger samples
    would find.

    \b
    Examples:
      cascade plan --effect 0.02
      cascade plan --metric click_rate --effect 0.05 --variants 3 --share 0.5
    """
    from abtest.report.sizing import render_sizing, size

    declared, history = _history(data_dir, metric, days, until)
    found = size(
        declared, history, relative_effect=effect, power=power, variants=variants, share=share
    )
    click.echo(found.model_dump_json(indent=1) if as_json else render_sizing(found, declared))


@main.command()
@_metric_option
@click.option(
    "--runs", type=click.IntRange(min=1), default=1000, show_default=True, help="A/A experiments."
)
@click.option(
    "--looks", type=click.IntRange(min=1), default=100, show_default=True, help="At each of them."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_days_option
@_until_option
@data_dir_option
@_json_option
def aa(
    metric: str, runs: int, looks: int, seed: int, days: int, until: "datetime | None",
    data_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    r"""Split archived traffic at random, again and again, and count the effects that are not there.

    Tells whether the platform's error rates hold on this traffic and metric, and what looking at
    the fixed-horizon result every day would do.

    \b
    Example:
      cascade aa --runs 1000 --metric revenue_per_unit
    """
    from abtest.analysis.statistics.false_positives import false_positives
    from abtest.report.sizing import render_false_positives

    declared, history = _history(data_dir, metric, days, until)
    taken = history.taken(declared)
    done = 0
    with bar("A/A") as progress:

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            progress(done, runs)

        found = false_positives(
            declared, taken, runs=runs, number_looks=looks, seed=seed, progress=advance
        )
    click.echo(
        found.model_dump_json(indent=1) if as_json else render_false_positives(found, declared)
    )


def _history(
    data_dir: Path, name: str, days: int, until: "datetime | None"
) -> "tuple[Metric, History]":
    from abtest.analysis.readings.history import history
    from serving.reports.step import open_archive

    chosen = settings(data_dir=data_dir)
    archive = open_archive(chosen)
    if name not in archive.metrics:
        raise click.UsageError(
            f"--metric {name!r} is not declared; known are {', '.join(sorted(archive.metrics))}"
        )
    archived_config(chosen)
    last: date | None = None if until is None else until.date()
    with bar("rolling up") as progress:
        found = history(
            archive.events,
            archive.rollups,
            archive.metrics,
            days=days,
            until=last,
            currencies=archive.currencies,
            progress=progress,
        )
    return archive.metrics[name], found
