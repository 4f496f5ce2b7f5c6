"""Experiments over HTTP: what is in force, how it is changed, and who changed it."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from abtest.split import change
from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
from abtest.split.splitter import Splitter
from serving.api import bundle_schemas, experiment_schemas, schemas
from serving.api.auth import CALLER
from serving.api.body import StrictJsonRoute
from serving.api.errors import MEDIA_TYPE
from serving.api.experiment_schemas import MAX_AUDIT, MAX_REVISION, Action
from serving.api.routes import Opened
from serving.experiments.preview import SAMPLE, preview
from serving.experiments.register import Changed, Make, UnknownExperimentError
from serving.service import Service

_PROBLEM = {"model": schemas.Problem, "content": {MEDIA_TYPE: {}}}
_OUTDATED = {"model": experiment_schemas.OutdatedProblem, "content": {MEDIA_TYPE: {}}}
_READ: dict[int | str, dict[str, object]] = {422: _PROBLEM, 503: _PROBLEM}
_CHANGE: dict[int | str, dict[str, object]] = {**_READ, 409: _OUTDATED, 413: _PROBLEM}

router = APIRouter(prefix="/v1/experiments", route_class=StrictJsonRoute)

Key = Annotated[str, Path(min_length=1, max_length=100)]


@router.get("")
async def experiments(service: Opened) -> experiment_schemas.ExperimentsResponse:
    """The experiments in force in the worker that is asked, and the bundles they choose from."""
    bundles = service.bundles
    version = bundles.register.version
    manifests = {name: line.funnel.manifest for name, line in bundles.lineup.lines.items()}
    return experiment_schemas.ExperimentsResponse(
        revision=version.revision,
        config_sha=bundles.lineup.splitter.config_sha,
        at=version.at,
        by=version.by,
        note=version.note,
        pending=bundles.register.pending,
        config=bundles.lineup.splitter.config,
        fault=bundles.register.fault
        or bundles.register.edit_fault
        or bundles.experiments_file.fault,
        bundles={
            name: bundle_schemas.BundleInfo(
                name=manifest.name,
                version=manifest.version,
                created=manifest.created,
                stages=tuple(stage.name for stage in manifest.stages),
            )
            for name, manifest in manifests.items()
        },
    )


@router.put("", responses=_CHANGE)
async def put_experiments(
    body: experiment_schemas.PutExperimentsRequest, request: Request, service: Opened
) -> experiment_schemas.ChangeResponse:
    """Put a configuration in the place of the one in force; every worker follows in a second.

    It must be made from the newest version, whose revision it sends. Nothing is taken that cannot
    be served, or after which results could not be told apart. To go back, put an older version.
    """
    return await _change(lambda _: body.config, body, request, service)


@router.get("/audit", responses=_READ)
async def audit(
    service: Opened, limit: Annotated[int, Query(ge=1, le=MAX_AUDIT)] = 100
) -> experiment_schemas.AuditResponse:
    """Every change, newest first: when, by whom, why, and what changed."""
    changes = await service.bundles.register.store.audit(limit)
    return experiment_schemas.AuditResponse(
        changes=tuple(
            experiment_schemas.AuditEntry.model_validate(entry, from_attributes=True)
            for entry in changes
        )
    )


@router.get("/versions/{revision}", responses={**_READ, 404: _PROBLEM})
async def version(
    revision: Annotated[int, Path(ge=1, le=MAX_REVISION)], service: Opened
) -> experiment_schemas.VersionResponse:
    """A version of the experiments, of which the last 1000 are kept."""
    found = await service.bundles.register.store.version(revision)
    return experiment_schemas.VersionResponse.model_validate(found, from_attributes=True)


def _acting(action: Action) -> Callable[..., Awaitable[experiment_schemas.ChangeResponse]]:
    async def act(
        key: Key, body: experiment_schemas.ActRequest, request: Request, service: Opened
    ) -> experiment_schemas.ChangeResponse:
        return await _change(_made(key, action, body), body, request, service)

    return act


# A route each, so that what is none of them is not found.
for _action, _about in {
    Action.START: "Run a draft, a paused experiment, or one whose A/A phase ends.",
    Action.AA: "Begin the A/A phase of a draft: units are split, and all get the control.",
    Action.RAMP: "Give an experiment a larger share of its layer; nobody who is in it moves.",
    Action.PAUSE: "Give everybody the defaults, until the experiment is started again.",
    Action.KILL: "End an experiment, and give everybody the defaults.",
    Action.SHIP: "End an experiment, and give everybody what a variant sets.",
}.items():
    router.add_api_route(
        f"/{{key}}/{_action}",
        _acting(_action),
        methods=["POST"],
        name=f"{_action} an experiment",
        description=_about,
        responses={**_CHANGE, 404: _PROBLEM},
    )


async def _change(
    make: Make, body: experiment_schemas.ChangeRequest, request: Request, service: Service
) -> experiment_schemas.ChangeResponse:
    done = await service.bundles.register.change(
        make,
        revision=body.revision,
        by=request.scope["state"][CALLER].name,
        note=body.note,
        dry_run=body.dry_run,
    )
    return await _changed(done, body)


async def _changed(
    done: Changed, body: experiment_schemas.ChangeRequest
) -> experiment_schemas.ChangeResponse:
    look = partial(
        preview,
        Splitter(done.before.config),
        Splitter(done.after),
        now_us=time.time_ns() // 1000,
        attributes=body.context,
    )
    movement = experiment_schemas.Movement.model_validate(await look(SAMPLE), from_attributes=True)
    units = None
    if body.units:
        found = await look(body.units)
        units = experiment_schemas.Movement.model_validate(found, from_attributes=True)
    return experiment_schemas.ChangeResponse(
        revision=done.revision,
        config_sha=done.after.sha,
        differences=done.differences,
        movement=movement,
        units=units,
    )


def _made(key: str, action: Action, body: experiment_schemas.ActRequest) -> Make:
    wanted = {Action.RAMP: "share", Action.SHIP: "variant"}.get(action)
    for name in ("share", "variant"):
        given = getattr(body, name) is not None
        if given != (name == wanted):
            said = f"takes no {name}; leave it out" if given else f"needs a {name}; send one"
            raise ExperimentError(f"{action} {said}")

    def make(config: ExperimentConfig) -> ExperimentConfig:
        known = sorted(experiment.key for experiment in config.experiments())
        if key not in known:
            raise UnknownExperimentError(f"there is no experiment {key!r}, there are {known}")
        if body.share is not None:
            return change.ramp(config, key, body.share)
        if body.variant is not None:
            return change.ship(config, key, body.variant)
        return _PLAIN[action](config, key)

    return make


_PLAIN = {
    Action.START: change.start,
    Action.AA: change.aa,
    Action.PAUSE: change.pause,
    Action.KILL: change.kill,
}
