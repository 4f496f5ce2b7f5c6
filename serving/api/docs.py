"""Docs: the OpenAPI document with the scope of every route, and a page of it that loads offline."""

from importlib.resources import files
from typing import Any, cast

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from serving.api.auth import OPEN, needed_scope
from serving.api.errors import MEDIA_TYPE

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Cascade recommender</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
</body>
</html>
"""
_SCRIPT = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null,
});
"""
_ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_DAY = "public, max-age=86400"
_KEY = "api_key"

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> dict[str, Any]:
    """The OpenAPI document."""
    state = request.app.state
    secured: bool = state.guard.secured()
    # It takes a tenth of a second to make, and changes at most once.
    if getattr(state, "documented", None) != secured:
        state.document = describe(request.app, secured=secured)
        state.documented = secured
    return cast("dict[str, Any]", state.document)


@router.get("/docs")
async def page() -> HTMLResponse:
    """The document as a page, on which requests can be tried."""
    return HTMLResponse(_PAGE)


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """What the page is made of; it comes with the package `fastapi-offline`."""
    if name == "page.js":
        return Response(_SCRIPT, media_type="text/javascript")
    if name not in _ASSETS:
        raise HTTPException(404)
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": _DAY})


def describe(app: FastAPI, *, secured: bool) -> dict[str, Any]:
    """The OpenAPI document of an application, with what each route needs and may answer.

    Args:
        app: whose routes are described.
        secured: whether API keys are needed.
    """
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    if secured:
        schemes = {_KEY: {"type": "http", "scheme": "bearer"}}
        document.setdefault("components", {})["securitySchemes"] = schemes
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = needed_scope(method.upper(), path)
            _add_responses(operation, secured=secured, needed=needed)
            if secured and needed != OPEN:
                operation["security"] = [{_KEY: [needed]}]
                note = f"Needs an API key with the scope `{needed}`."
                operation["description"] = f"{operation.get('description', '')}\n\n{note}".strip()
    return document


def _add_responses(operation: dict[str, Any], *, secured: bool, needed: str) -> None:
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if not secured:
        said = {"421": "Not sent from this machine, or by a page of another site"}
    elif needed != OPEN:
        said = {"401": "No API key that is in force", "403": "The API key lacks the scope"}
    else:
        said = {}
    said |= {"429": "More than the caller's rate"} if not secured or needed != OPEN else {}
    for status, description in said.items():
        entry = {"description": description, "content": problem}
        operation["responses"].setdefault(status, entry)
