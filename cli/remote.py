"""Remote: commands that ask a running server over HTTP."""

import json
import os
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

import click

from cli.command import WrongInput

TIMEOUT_S = 600.0
"""Loading a large bundle takes a while."""

url_option = click.option(
    "--url", default="http://127.0.0.1:8000", show_default=True, help="The server."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def call(method: str, url: str, path: str, body: dict[str, object] | None = None) -> Any:  # noqa: ANN401
    """The JSON a server answers; CASCADE_API_KEY, if it is set, is sent along.

    Raises:
        WrongInput: the server refuses what was sent.
        click.ClickException: it failed, or there is none.
    """
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url {url!r} must begin with http:// or https://")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("CASCADE_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url.rstrip('/')}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            kind = (
                click.ClickException
                if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
                else WrongInput
            )
            raise kind(_detail(error.read(), error.code)) from error
    except urllib.error.URLError as error:
        raise click.ClickException(
            f"no server answers at {url} ({error.reason}); start one with `cascade serve`"
        ) from error


def _detail(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {status}"
