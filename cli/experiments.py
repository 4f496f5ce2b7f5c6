"""Experiments of a running server: what is in force, changing it, and who changed it."""

import json
from pathlib import Path

import click

from cli.command import Commands, main
from cli.experiment_change import PATH, act, change
from cli.experiment_tables import overview, show_table
from cli.remote import call, json_option, url_option

MAX_REVISION = 2**53

_note = click.option("--note", default="", help="Why, for the audit trail.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
_key = click.argument("key")


@main.group(cls=Commands)
def experiments() -> None:
    r"""Show and change the experiments of a running server.

    A change shows what it changes and how many of 10,000 made-up users it moves. Every change has a
    revision; one that was made from an older revision than the newest is refused. CASCADE_API_KEY,
    if it is set, is sent with every call: reading needs the scope experiments, changes admin.

    \b
    Examples:
      cascade experiments show
      cascade experiments check experiments.toml
      cascade experiments apply experiments.toml --note "the new ranker"
      cascade experiments ramp new-ranker 0.25
      cascade experiments ship new-ranker dftopk
    """


@experiments.command()
@url_option
@json_option
@click.option("--toml", "as_toml", is_flag=True, help="Print a file that `apply` takes.")
@click.option(
    "--revision", type=click.IntRange(1, MAX_REVISION), help="Print this version as a file."
)
def show(url: str, as_json: bool, as_toml: bool, revision: int | None) -> None:
    r"""Show what is in force, or an older version.

    To go back to an older version, print it into a file and apply that.

    \b
    Examples:
      cascade experiments show
      cascade experiments show --revision 7 > seven.toml
    """
    path = PATH if revision is None else f"{PATH}/versions/{revision}"
    found = call("GET", url, path)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    elif as_toml or revision is not None:
        from abtest.split.config import ExperimentConfig
        from abtest.split.toml import to_toml

        click.echo(to_toml(ExperimentConfig.model_validate(found["config"])), nl=False)
    else:
        click.echo(f"revision {found['revision']} of {found['by']}, {found['at'][:16]} UTC")
        for fault in (found["fault"], "the store is away" if found["pending"] else None):
            if fault:
                click.echo(f"fault: {fault}")
        show_table(overview(found["config"]))


@experiments.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    r"""Check a file without a server.

    That its bundles are there and can be served is checked when it is applied.

    \b
    Example:
      cascade experiments check experiments.toml
    """
    from abtest.split.config import load_config
    from serving.cascade.policy import check_policies

    config = load_config(file)
    check_policies(config)
    found = [experiment.key for experiment in config.experiments()]
    click.echo(f"{file} is right: {len(found)} experiments, {len(config.holdouts)} holdouts")


@experiments.command()
@click.argument("file", type=click.Path(path_type=Path))
@_note
@_dry_run
@_yes
@url_option
def apply(file: Path, note: str, dry_run: bool, yes: bool, url: str) -> None:
    r"""Put a file in the place of what is in force.

    \b
    Examples:
      cascade experiments apply experiments.toml --dry-run
      cascade experiments apply experiments.toml --note "the new ranker"
    """
    from abtest.split.config import load_config

    config = load_config(file).model_dump(mode="json")
    change("PUT", url, PATH, {"config": config, "note": note}, dry_run=dry_run, ask=not yes)


@experiments.command()
@_key
@_note
@_dry_run
@url_option
def start(key: str, note: str, dry_run: bool, url: str) -> None:
    r"""Run a draft, a paused experiment, or one whose A/A phase ends.

    \b
    Example:
      cascade experiments start new-ranker
    """
    act(url, key, "start", {"note": note}, dry_run=dry_run)


@experiments.command()
@_key
@_note
@_dry_run
@url_option
def aa(key: str, note: str, dry_run: bool, url: str) -> None:
    r"""Begin the A/A phase of a draft: users are split, and all get the control.

    \b
    Example:
      cascade experiments aa new-ranker
    """
    act(url, key, "aa", {"note": note}, dry_run=dry_run)


@experiments.command()
@_key
@click.argument("share", type=click.FloatRange(0, 1, min_open=True))
@_note
@_dry_run
@url_option
def ramp(key: str, share: float, note: str, dry_run: bool, url: str) -> None:
    r"""Give an experiment more traffic: SHARE of its layer's. Nobody who is in it moves.

    \b
    Example:
      cascade experiments ramp new-ranker 0.25
    """
    act(url, key, "ramp", {"share": share, "note": note}, dry_run=dry_run)


@experiments.command()
@_key
@_note
@_dry_run
@url_option
def pause(key: str, note: str, dry_run: bool, url: str) -> None:
    r"""Give everybody the defaults until the experiment is started again.

    \b
    Example:
      cascade experiments pause new-ranker
    """
    act(url, key, "pause", {"note": note}, dry_run=dry_run)


@experiments.command()
@_key
@_note
@_dry_run
@_yes
@url_option
def kill(key: str, note: str, dry_run: bool, yes: bool, url: str) -> None:
    r"""End an experiment for good and give everybody the defaults.

    \b
    Example:
      cascade experiments kill new-ranker --note "returns went up"
    """
    act(url, key, "kill", {"note": note}, dry_run=dry_run, ask=not yes)


@experiments.command()
@_key
@click.argument("variant")
@_note
@_dry_run
@_yes
@url_option
def ship(key: str, variant: str, note: str, dry_run: bool, yes: bool, url: str) -> None:
    r"""End an experiment and give everybody what VARIANT sets.

    \b
    Example:
      cascade experiments ship new-ranker dftopk
    """
    act(url, key, "ship", {"variant": variant, "note": note}, dry_run=dry_run, ask=not yes)


@experiments.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@url_option
@json_option
def audit(limit: int, url: str, as_json: bool) -> None:
    r"""Show who changed what, newest first.

    \b
    Example:
      cascade experiments audit --limit 5
    """
    found = call("GET", url, f"{PATH}/audit?limit={limit}")
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for entry in found["changes"]:
        click.echo(f"revision {entry['revision']} of {entry['by']}, {entry['at'][:16]} UTC")
        for line in (*([entry["note"]] if entry["note"] else []), *entry["differences"]):
            click.echo(f"  {line}")
