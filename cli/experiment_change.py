"""Experiment change: shown before it is made, and made from the revision in force."""

from typing import Any
from urllib.parse import quote

import click

from cli.experiment_tables import moves, show_table
from cli.remote import call

PATH = "/v1/experiments"


def act(
    url: str,
    key: str,
    action: str,
    body: dict[str, object],
    *,
    dry_run: bool,
    ask: bool = False,
) -> None:
    """Do something to one experiment, as `change`."""
    path = f"{PATH}/{quote(key, safe='')}/{action}"
    change("POST", url, path, body, dry_run=dry_run, ask=ask)


def change(
    method: str, url: str, path: str, body: dict[str, object], *, dry_run: bool, ask: bool
) -> None:
    """Show what a change does, and make it; of the revision that is in force now."""
    body = {**body, "revision": call("GET", url, PATH)["revision"]}
    if dry_run or ask:
        _preview(call(method, url, path, {**body, "dry_run": True}))
        if dry_run:
            return
        click.confirm("Change it?", abort=True)
    done = call(method, url, path, body)
    if not ask:
        _preview(done)
    click.echo(f"revision {done['revision']} is in force")


def _preview(found: dict[str, Any]) -> None:
    for line in found["differences"] or ["nothing changes"]:
        click.echo(line)
    movement = found["movement"]
    if movement["moves"]:
        show_table(moves(movement))
    click.echo(f"of {movement['units']} made-up users {movement['changed']} get other parameters")
