"""Bundles over HTTP: what is served, activation, and candidates in the shadow."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response

from serving.api import bundle_schemas, schemas
from serving.api.body import StrictJsonRoute
from serving.api.errors import MEDIA_TYPE
from serving.api.routes import Opened
from serving.bundles.shadow import Running
from serving.bundles.tally import Tally, quantile_ms

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}
_UNKNOWN: dict[int | str, dict[str, object]] = {404: _PROBLEM, 422: _PROBLEM, 503: _PROBLEM}
_CHANGES: dict[int | str, dict[str, object]] = {**_UNKNOWN, 413: _PROBLEM}

router = APIRouter(prefix="/v1/bundles", route_class=StrictJsonRoute)

ServedName = Annotated[str, Path(min_length=1, max_length=128)]


@router.get("")
async def bundles(service: Opened) -> bundle_schemas.BundlesResponse:
    """What is served, from which folder and since when, and which folders lie on disk."""
    catalog, shadows = service.bundles.catalog, service.bundles.shadows
    return bundle_schemas.BundlesResponse(
        served=tuple(
            bundle_schemas.ServedBundle(
                name=name,
                source=served.choice.source,
                bundle=served.line.funnel.bundle,
                created=served.line.funnel.manifest.created,
                since=served.since,
                fault=catalog.faults.get(name),
                shadow=shadows.running[name].trial.source if name in shadows.running else None,
                shadow_fault=shadows.faults.get(name),
            )
            for name, served in sorted(catalog.served.items())
        ),
        folders=tuple(service.bundles.fleet.loader.sources()),
        held=len(service.bundles.fleet.funnels()),
    )


@router.post("/{name}/activate", responses=_CHANGES)
async def activate(
    name: ServedName, body: bundle_schemas.ActivateRequest, service: Opened
) -> bundle_schemas.ActivateResponse:
    """Answer under a name with the bundle of a folder; going back is the same call.

    The bundle is loaded, verified and tested on recorded requests beside the one that answers. If
    anything is wrong with it, the old one answers on.
    """
    done = await service.bundles.catalog.activate(name, body.source or name)
    return bundle_schemas.ActivateResponse(
        name=name,
        source=done.now.choice.source,
        bundle=done.now.line.funnel.bundle,
        previous_source=done.before.choice.source,
        previous_bundle=done.before.line.funnel.bundle,
        tested_requests=done.tested.requests,
        median_ms=round(done.tested.median_ms, 3),
        took_ms=round(done.took_ms, 3),
    )


@router.get("/{name}/shadow", responses=_UNKNOWN)
async def shadow_report(name: ServedName, service: Opened) -> bundle_schemas.ShadowReport:
    """How the candidate beside a name agrees with it, summed over all workers."""
    service.bundles.catalog.require(name)
    return _report(name, *await service.bundles.shadows.report(name))


@router.post("/{name}/shadow", responses=_CHANGES)
async def shadow(
    name: ServedName, body: bundle_schemas.ShadowRequest, service: Opened
) -> bundle_schemas.ShadowReport:
    """Let a candidate score a share of the requests of a name, unseen; 0 ends it."""
    service.bundles.catalog.require(name)
    if body.share == 0:
        return _report(name, *await service.bundles.shadows.end(name))
    running = await service.bundles.shadows.begin(name, body.source, body.share)
    return _report(name, running, running.tally)


@router.delete("/{name}/shadow", status_code=HTTPStatus.NO_CONTENT, responses=_UNKNOWN)
async def end_shadow(name: ServedName, service: Opened) -> Response:
    """End the trial beside a name."""
    service.bundles.catalog.require(name)
    await service.bundles.shadows.end(name)
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _report(name: str, running: Running, found: Tally) -> bundle_schemas.ShadowReport:
    return bundle_schemas.ShadowReport(
        name=name,
        source=running.trial.source,
        bundle=running.funnel.bundle,
        share=running.trial.share,
        since=running.trial.since,
        compared=found.compared,
        failed=found.failed,
        dropped=found.dropped,
        overlap=_mean(found.overlap, found.compared),
        overlap_first=_mean(found.first, found.compared),
        rank_correlation=_mean(found.rank_correlation, found.correlated),
        served=_times(found.served_us),
        candidate=_times(found.candidate_us),
    )


def _times(buckets: dict[int, int]) -> bundle_schemas.ShadowTimes:
    return bundle_schemas.ShadowTimes(
        p50_ms=quantile_ms(buckets, 0.5), p95_ms=quantile_ms(buckets, 0.95)
    )


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
