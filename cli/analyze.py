"""Analyze: a table of units from anywhere, by the statistics of the reports."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.command import main

if TYPE_CHECKING:
    from rich.table import Table

    from abtest.analysis.statistics.effect import Effect, Interval
    from abtest.analysis.table_analysis import TableAnalysis

WIDTH = 100


@main.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--unit", required=True, help="Column of what was split; each once.")
@click.option("--variant", required=True, help="Column of the variant.")
@click.option("--control", required=True, help="The variant the others are compared with.")
@click.option("--metric", required=True, help="Column of numbers.")
@click.option(
    "--metric-type",
    type=click.Choice(("mean", "proportion", "ratio")),
    default="mean",
    show_default=True,
    help="A proportion is a mean of 0 and 1.",
)
@click.option("--denominator", help="Of a ratio: sum of --metric over sum of this column.")
@click.option("--covariate", help="The metric before the experiment, for CUPED.")
@click.option("--covariate-denominator", help="The denominator before the experiment.")
@click.option("--cap", type=float, help="Count values above this quantile as it, such as 0.999.")
@click.option(
    "--expect-split", help="Shares: 0.5,0.5 (control first, then by name), or A=0.5,B=0.5."
)
@click.option("--planned-units", type=int, help="Units of two arms that were planned for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def analyze(
    table: Path,
    control: str,
    cap: float | None,
    expect_split: str | None,
    as_json: bool,
    **columns: str | int | None,
) -> None:
    r"""Compare the variants of a table with one row a unit: .parquet or .csv.

    The sample ratio comes first: where it fails against --expect-split, no effect is told. Effects
    have a 95 % interval and p-value for a test that is read once, and an always-valid interval for
    one that is watched. docs/statistics.md explains every number and the fields of the JSON.

    \b
    Examples:
      cascade analyze users.parquet --unit user --variant arm --control old --metric revenue
      cascade analyze users.csv --unit user --variant arm --control old --metric clicks \
        --metric-type ratio --denominator views --expect-split 0.5,0.5 --json
    """
    from abtest.analysis.table import Question
    from abtest.analysis.table_analysis import analyze_table

    question = Question(control=control, cap_quantile=cap, **columns)  # type: ignore[arg-type]
    found = analyze_table(table, question, expect_split)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    _print(found)


def _print(found: "TableAnalysis") -> None:
    from rich.console import Console

    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
    ratio = found.sample_ratio
    against = "the shares given" if found.split_given else "equal shares"
    verdict = "ok" if ratio.ok else "FAILED"
    console.print(f"Sample ratio against {against}: {verdict} (p = {ratio.p_value:.3g})")
    if not ratio.ok:
        console.print(
            "No effect can be read: the split is broken, or rows were lost."
            if found.split_given
            else "If the shares were not equal, name them with --expect-split."
        )
    console.print(_arms(found))
    for effect in found.effects:
        console.print(_effect(effect))
        for warning in effect.warnings:
            console.print(f"  note: {warning}")
    for name in found.untested:
        console.print(f"{name}: no test is possible: too few units, or values that do not vary")


def _arms(found: "TableAnalysis") -> "Table":
    from rich.table import Table

    table = Table("variant", title=f"{found.metric} ({found.metric_type})", title_justify="left")
    for title in ("units", "expected", found.metric_type):
        table.add_column(title, justify="right")
    for arm in found.arms:
        expected = found.sample_ratio.expected[arm.variant]
        shown = "none" if arm.value is None else f"{arm.value:.6g}"
        table.add_row(arm.variant, f"{arm.units:,}", f"{expected:,.0f}", shown)
    return table


def _effect(effect: "Effect") -> "Table":
    from rich.table import Table

    table = Table("", title=f"{effect.variant}: {effect.method}", title_justify="left")
    for title in ("effect", "95 % interval", "always valid"):
        table.add_column(title, justify="right")
    table.add_row(
        "absolute",
        f"{effect.absolute:+.6g}",
        _interval(effect.interval, "+.6g"),
        _interval(effect.always_valid, "+.6g"),
    )
    if effect.relative is not None:
        table.add_row(
            "relative",
            f"{effect.relative:+.2%}",
            _interval(effect.relative_interval, "+.2%"),
            _interval(effect.always_valid_relative, "+.2%"),
        )
    table.add_row("p-value", f"{effect.p_value:.4g}", _adjusted(effect), "")
    if effect.variance_reduction is not None:
        table.add_row("variance saved by CUPED", f"{effect.variance_reduction:.1%}", "", "")
    if effect.detectable is not None:
        table.add_row("detectable with 80 % power", f"{effect.detectable:.6g}", "", "")
    return table


def _adjusted(effect: "Effect") -> str:
    return "" if effect.p_adjusted is None else f"with Holm's method {effect.p_adjusted:.4g}"


def _interval(interval: "Interval | None", form: str) -> str:
    return "" if interval is None else f"{interval.low:{form}} to {interval.high:{form}}"
