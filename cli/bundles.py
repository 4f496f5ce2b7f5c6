"""Bundles of a running server: which answer, swapping them, trying others in the shadow."""

import json
from typing import Any
from urllib.parse import quote

import click

from cli.command import Commands, main
from cli.remote import call, json_option, url_option


@main.group(cls=Commands)
def bundles() -> None:
    r"""Show and change the bundles of a running server.

    CASCADE_API_KEY, if it is set, is sent with every call; changes need a key with the scope admin.

    \b
    Examples:
      cascade bundles list
      cascade bundles activate dftopk --source dftopk-june
      cascade bundles shadow dftopk --source dftopk-june --share 0.1
    """


@bundles.command("list")
@url_option
@json_option
def list_bundles(url: str, as_json: bool) -> None:
    r"""Show what is served, from which folder and since when, and which folders lie on disk.

    \b
    Example:
      cascade bundles list --url http://127.0.0.1:8000
    """
    found = _call("GET", url, "")
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for served in found["served"]:
        click.echo(
            f"{served['name']}: {served['bundle']} from {served['source']}, since {served['since']}"
        )
        if served["shadow"]:
            click.echo(f"  in the shadow: {served['shadow']}")
        for fault in (served["fault"], served["shadow_fault"]):
            if fault:
                click.echo(f"  fault: {fault}")
    click.echo(f"folders: {', '.join(found['folders'])}")


@bundles.command()
@click.argument("name")
@click.option("--source", help="Folder of the bundle.  [default: NAME]")
@url_option
def activate(name: str, source: str | None, url: str) -> None:
    r"""Answer under NAME with another bundle; no request fails meanwhile.

    The bundle is verified and tested first. Where anything is wrong with it, the old one stays.
    To go back, activate the folder from before.

    \b
    Example:
      cascade bundles activate dftopk --source dftopk-june
    """
    done = _call("POST", url, f"/{quote(name, safe='')}/activate", {"source": source})
    click.echo(
        f"{name}: {done['bundle']} answers after {done['took_ms']:.0f} ms, "
        f"tested on {done['tested_requests']} requests of {done['median_ms']:.1f} ms"
    )
    click.echo(f"back to {done['previous_bundle']}: --source {done['previous_source']}")


@bundles.command()
@click.argument("name")
@click.option("--source", help="Begin a trial with the bundle of this folder.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), help="Of the requests.")
@click.option("--end", is_flag=True, help="End the trial.")
@url_option
@json_option
def shadow(
    name: str, source: str | None, share: float | None, end: bool, url: str, as_json: bool
) -> None:
    r"""Try a bundle on the traffic of NAME without answering, and see how it does.

    \b
    Examples:
      cascade bundles shadow dftopk --source dftopk-june --share 0.1
      cascade bundles shadow dftopk
      cascade bundles shadow dftopk --end
    """
    path = f"/{quote(name, safe='')}/shadow"
    if (source is None) != (share is None) or (end and source is not None):
        raise click.UsageError(
            "give --source and --share to begin, --end to end, nothing for the report"
        )
    if source is not None:
        found = _call("POST", url, path, {"source": source, "share": share})
    else:
        found = _call("GET", url, path)
        if end:
            _call("DELETE", url, path)
    click.echo(json.dumps(found, indent=1) if as_json else _report(found))


def _report(found: dict[str, Any]) -> str:
    lines = [
        f"{found['bundle']} in the shadow of {found['name']}: "
        f"{found['share']:g} of its requests since {found['since']}",
        f"compared {found['compared']}, failed {found['failed']}, dropped {found['dropped']}",
    ]
    if found["compared"]:
        correlation = found["rank_correlation"]
        lines += [
            f"same items {found['overlap']:.1%}, same first item {found['overlap_first']:.1%}, "
            f"rank correlation {'-' if correlation is None else f'{correlation:.3f}'}",
            *(
                f"{side}: p50 {found[side]['p50_ms']:.2f} ms, p95 {found[side]['p95_ms']:.2f} ms"
                for side in ("served", "candidate")
            ),
        ]
    return "\n".join(lines)


def _call(method: str, url: str, path: str, body: dict[str, object] | None = None) -> Any:  # noqa: ANN401
    return call(method, url, f"/v1/bundles{path}", body)
