"""Routes of reports: what the background process made of the archived events."""

import asyncio
from typing import Annotated, cast

from fastapi import APIRouter, Path, Request, Response

from abtest.report.index import Index, read_index, report_path
from abtest.report.model import Report, Summary
from serving.api import schemas
from serving.api.errors import MEDIA_TYPE
from serving.reports.missing import NoReportError
from serving.settings import Settings

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}
_KEY = r"^[a-z0-9][a-z0-9-]{0,99}$"

router = APIRouter()


@router.get("/v1/experiments/reports")
async def reports(request: Request) -> tuple[Summary, ...]:
    """A line for each experiment and holdout that has a report: what to do, as of when."""
    index = await asyncio.to_thread(read_index, _settings(request).reports_dir)
    return tuple(entry.summary for entry in index.entries.values() if entry.summary is not None)


@router.get(
    "/v1/experiments/{key}/report", responses={404: _PROBLEM, 422: _PROBLEM}, response_model=Report
)
async def report(key: Annotated[str, Path(pattern=_KEY)], request: Request) -> Response:
    """The report of an experiment or a holdout, as the background process last made it."""
    settings = _settings(request)
    try:
        content = await asyncio.to_thread(report_path(settings.reports_dir, key).read_bytes)
    except FileNotFoundError:
        index = await asyncio.to_thread(read_index, settings.reports_dir)
        raise NoReportError(_why_none(key, index, settings)) from None
    return Response(content, media_type="application/json")


def _why_none(key: str, index: Index, settings: Settings) -> str:
    entry = index.entries.get(key)
    if entry is not None and entry.fault is not None:
        return f"no report of {key!r} could be made: {entry.fault}"
    return (
        f"there is no report of {key!r} yet; one is made every {settings.report_interval_s:g} s of "
        "each experiment that is not a draft and has archived events (GET /v1/experiments lists "
        f"them), or at once by `cascade report {key}`"
    )


def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)
