"""HTTP bodies about experiments."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from abtest.split.config import ExperimentConfig
from serving.api.bundle_schemas import BundleInfo
from serving.api.schemas import Body, Flag, Id, Problem, Value, Whole

MAX_UNITS = 1000
MAX_AUDIT = 1000
MAX_REVISION = 2**53


def _alike(raw: Any) -> Any:  # noqa: ANN401  # not checked yet
    """Make whole numbers floats where the parameter has a float elsewhere.

    Languages with one kind of number write 1.0 as 1, and a parameter has one type.
    """
    try:
        held = [raw["defaults"], *_params(raw)]
        floats = {n for params in held for n, value in params.items() if isinstance(value, float)}
        for params in held:
            for name in floats & params.keys():
                if type(params[name]) is int:
                    params[name] = float(params[name])
    except (AttributeError, KeyError, TypeError):
        pass  # not of the right shape: that is said by the model
    return raw


def _params(raw: Any) -> list[Any]:  # noqa: ANN401  # not checked yet
    layers = [*raw.get("layers", ()), *(la for d in raw.get("domains", ()) for la in d["layers"])]
    return [v.get("params", {}) for la in layers for e in la["experiments"] for v in e["variants"]]


Note = Annotated[str, StringConstraints(max_length=1000)]
Revision = Annotated[int, Field(strict=True, ge=0, le=MAX_REVISION), Whole]


class Action(StrEnum):
    """What can be done to an experiment."""

    START = "start"
    AA = "aa"
    RAMP = "ramp"
    PAUSE = "pause"
    KILL = "kill"
    SHIP = "ship"


class ExperimentsResponse(Body):
    """The experiments in force in the worker that is asked, and the bundles they choose from."""

    revision: int
    """Send it back with a change."""
    config_sha: str
    at: datetime
    """When this version was made."""
    by: str
    """Name of the API key or address of who made it, `file` or `guardrail`."""
    note: str
    pending: bool
    """It is an edit of the file that the store, which is away, does not have yet."""
    config: ExperimentConfig
    fault: str | None
    """Why the file of now, or the newest version, is not in force; null where all is well."""
    bundles: dict[str, BundleInfo]


class VersionResponse(Body):
    """A version of the experiments, in force or not."""

    revision: int
    config_sha: str
    at: datetime
    by: str
    note: str
    config: ExperimentConfig


class ChangeRequest(Body):
    """What every change says."""

    revision: Revision
    """Of the version that the change was made from."""
    note: Note = ""
    """Why, for those who read the audit trail."""
    dry_run: Flag = False
    """Check everything, say what would change and who would move, and change nothing."""
    units: tuple[Id, ...] = Field(default=(), max_length=MAX_UNITS)
    """Units whose moves shall be told, too."""
    context: dict[Id, Value] = Field(default={}, max_length=64)
    """What all units are taken to ask with, for experiments with conditions."""


class PutExperimentsRequest(ChangeRequest):
    """Put a configuration in the place of the one in force."""

    config: Annotated[ExperimentConfig, BeforeValidator(_alike)]


class ActRequest(ChangeRequest):
    """Change one experiment."""

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Of the layer's traffic; `ramp` needs it."""
    variant: Id | None = None
    """The winner; `ship` needs it."""


class Move(Body):
    """Units that leave, enter or change their variant of an experiment."""

    layer: str
    key: str
    before: str | None
    """Their variant; null where they were not in the experiment."""
    after: str | None
    units: int
    examples: tuple[str, ...]
    """At most five of them."""


class Movement(Body):
    """What a change means for the units that were looked at."""

    units: int
    changed: int
    """Of them, those who get other parameters."""
    moves: tuple[Move, ...]


class ChangeResponse(Body):
    """What a change did, or would do."""

    revision: int
    """In force now; of a dry run, or where nothing changed, the one before."""
    config_sha: str
    """Of the configuration that was asked for."""
    differences: tuple[str, ...]
    """`path: old -> new`, one line each."""
    movement: Movement
    """Of 10,000 made-up units, which move like as many others."""
    units: Movement | None
    """Of the units in the request; null where there were none."""


class AuditEntry(Body):
    """A change of the experiments."""

    revision: int
    at: datetime
    by: str
    note: str
    config_sha: str
    differences: tuple[str, ...]


class AuditResponse(Body):
    """Changes, newest first."""

    changes: tuple[AuditEntry, ...]


class OutdatedProblem(Problem):
    """The change was made from a version that is not the newest any more."""

    revision: int | None = None
    """Of the newest version."""
    at: datetime | None = None
    by: str | None = None
    note: str | None = None
