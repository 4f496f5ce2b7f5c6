"""Dashboard: the page at `/` and the files it is made of. They hold no data, so anybody may look.

The page is asked for anew each time. It names its files by a folder that is the hash of them all,
so that a browser may keep those for good and never mixes the files of two releases.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, HTTPException, Request, Response

PATH = "/dashboard/"
PAGE = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing inline, nothing from elsewhere, and no text ever becomes markup."""

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True)
class Files:
    """What is served, as it was when the server started."""

    page: bytes
    assets: Mapping[str, bytes]
    """Content by file name."""
    version: str
    """Hash of it all, in hexadecimal."""


def read_files(folder: Traversable) -> Files:
    """Read the page and the files beside it, and put the folder of this version into the page."""
    found = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    assets = {name: found[name] for name in sorted(found) if _suffix(name) in _TYPES}
    digest = hashlib.sha256(found[PAGE])
    for name, content in assets.items():
        digest.update(name.encode() + b"\0" + content)
    version = digest.hexdigest()[:16]
    page = found[PAGE].replace(b'="dashboard/', f'="{PATH}{version}/'.encode())
    return Files(page, assets, version)


def dashboard(folder: Traversable | None = None) -> APIRouter:
    """The routes of the page.

    Args:
        folder: that the files lie in; the one of the package if absent.
    """
    held = read_files(folder or files("abtest") / "dashboard")
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": _ASK_AGAIN}
        return _answer(request, held.page, "text/html", held.version, headers)

    @router.get(PATH + "{version}/{name}")
    async def asset(version: str, name: str, request: Request) -> Response:
        if version != held.version or name not in held.assets:
            raise HTTPException(404)
        kept = {"Cache-Control": _FOREVER}
        return _answer(request, held.assets[name], _TYPES[_suffix(name)], version, kept)

    return router


def _answer(
    request: Request, content: bytes, media_type: str, version: str, headers: dict[str, str]
) -> Response:
    etag = f'"{version}"'
    sent = {**headers, "ETag": etag}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or f"W/{etag}" in known:
        return Response(status_code=304, headers=sent)
    return Response(content, media_type=media_type, headers=sent)


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
