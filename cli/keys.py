"""API keys: make, list, revoke."""

from pathlib import Path
from typing import Any

import click

from cli.command import main, settings

# Of `serving.api.keys`, which is imported when a command runs.
_SCOPES = ("recommend", "events", "explain", "metrics", "experiments", "admin")

_data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Of the server.  [default: var]"
)


@main.group()
def keys() -> None:
    r"""Make, list and revoke API keys.

    A server with no key answers its own machine only. The first key closes it to everyone without
    one. Changes reach a running server within a second.

    \b
    Scopes:
      recommend     ask for recommendations
      events        report feedback, write users and their interactions
      explain       ask why an item was recommended
      metrics       read /metrics
      experiments   read experiments, their reports and who changed them
      admin         everything, items, bundles and experiments too

    \b
    Example:
      cascade keys create shop --scope recommend --scope events
    """


@keys.command()
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(_SCOPES), multiple=True, required=True)
@click.option("--rate", "rate_per_s", type=float, help="Requests a second, from each worker.")
@click.option("--env", is_flag=True, help="Keep nothing; print the entry for CASCADE_API_KEYS.")
@_data_dir
def create(
    name: str, scopes: tuple[str, ...], rate_per_s: float | None, env: bool, data_dir: Path | None
) -> None:
    r"""Make an API key and print it: the only time it is shown.

    What is kept, in keys.toml of the data directory, is a hash of it.

    \b
    Examples:
      KEY=$(cascade keys create shop --scope recommend --scope events)
      curl -s localhost:8000/v1/recommend -H "Authorization: Bearer $KEY" \
        -d '{"user_id": "1", "num": 5}'
      cascade keys create shop --scope recommend --env
    """
    from serving.api.keys import KeysError, as_variable, new_key, only_writer, read_keys, write_keys

    key, token = new_key(name, scopes, rate_per_s)
    if env:
        click.echo(f"CASCADE_API_KEY={token}\nCASCADE_API_KEYS={as_variable(key)}")
        click.echo("the first is the key, for its caller; the second is for the server", err=True)
        return
    path = _path(data_dir)
    with only_writer(path):
        kept = read_keys(path)
        if name in {each.name for each in kept}:
            raise KeysError(
                f"there is a key {name!r} in {path}; choose another name, or revoke it first"
            )
        write_keys(path, (*kept, key))
    click.echo(token)
    click.echo(f"kept as a hash in {path}; the key is not shown again", err=True)


@keys.command("list")
@_data_dir
def list_(data_dir: Path | None) -> None:
    r"""List the API keys of a data directory: names, scopes, when they were made.

    \b
    Example:
      cascade keys list --data-dir var
    """
    from serving.api.keys import read_keys

    path = _path(data_dir)
    rows = [("name", "scopes", "created", "requests/s")]
    for key in read_keys(path):
        created = "" if key.created is None else f"{key.created:%Y-%m-%d %H:%M}"
        rate = "" if key.rate_per_s is None else f"{key.rate_per_s:g}"
        rows.append((key.name, " ".join(sorted(key.scopes)), created, rate))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


@keys.command()
@click.argument("name")
@_data_dir
def revoke(name: str, data_dir: Path | None) -> None:
    r"""Revoke an API key: within a second it is refused.

    \b
    Example:
      cascade keys revoke shop
    """
    from serving.api.keys import KeysError, only_writer, read_keys, write_keys

    path = _path(data_dir)
    with only_writer(path):
        kept = read_keys(path)
        left = [key for key in kept if key.name != name]
        if len(left) == len(kept):
            names = ", ".join(key.name for key in kept) or "none"
            raise KeysError(f"there is no key {name!r} in {path}; there are: {names}")
        write_keys(path, left)
    click.echo(f"{name} is revoked", err=True)


def _path(data_dir: Path | None) -> Path:
    from serving.api.keys import KEYS_FILE

    chosen: Any = settings(data_dir=data_dir)
    path: Path = chosen.data_dir / KEYS_FILE
    return path
